"""``skipc policy``, up to the engine that answers early."""

from __future__ import annotations

import shutil
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects
import pytest

from skipc.compiler.front import read_front
from skipc.compiler.recipes.digits_data import load_digits
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.certificate import percent_up
from skipc.tools.report.page import page_of
from skipc.tools.report.sections.routes import policies_chart
from skipc.tools.report.study import read_study
from skipc.tools.views.routes import exits_of
from tests.command_line import mistake, skipc

if TYPE_CHECKING:
    from pathlib import Path

ASKED = ("--data", "digits", "--configuration", "early")


@pytest.fixture
def here(with_exits: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(with_exits, tmp_path / "exits")


def test_a_policy_is_what_the_engine_does(here: Path) -> None:
    path, front = here / "ckpt.skipc", here / "front.json"
    before = read_front(front).configurations
    ended = skipc("policy", path, *ASKED, "--front", front, "--json")
    assert "samples to choose by tell no difference of 0.3 points" in ended.err
    found = ended.json()
    assert found["configuration"] == "early"
    assert found["certificate"] is None
    assert found["source"] == "table"
    assert list(found["policies"]) == [
        *("to the end", "uniform threshold", "budget solver", "learnt gates"),
        *("myopic gates", "oracle"),
    ]
    assert found["policies"][found["policy"]]["shares"] == found["stops"]
    entry = Bundle.open(path).manifest.configuration("early")
    after = read_front(front).configurations
    assert [one for one in after if one.name != "early"] == [
        one for one in before if one.name != "early"
    ]
    early = next(one for one in after if one.name == "early")
    assert [test.threshold for test in early.tests] == [
        test["threshold"] for test in found["tests"]
    ]
    assert (early.stops, early.metrics) == (entry.stops, entry.metrics)

    report = load_digits().report
    images, labels = report.images[216:], report.labels[216:]
    stops, right = np.zeros(3), 0
    with AdaptiveEngine.open(path) as engine:
        engine.pin("early")
        for image, label in zip(images, labels, strict=True):
            (answer,) = engine({"images": image[None]}).values()
            assert engine.last is not None
            stops[engine.last.stage] += 1
            right += int(answer.argmax()) == label
    assert tuple(stops / len(labels)) == pytest.approx(entry.stops)
    assert right / len(labels) == pytest.approx(entry.metrics["accuracy"])
    assert skipc("check", path).code == 0
    _is_shown(path, found)


def _is_shown(path: Path, found: dict[str, Any]) -> None:
    """Checks that `show` and the report say what the policy's solver printed."""
    entry = Bundle.open(path).manifest.configuration("early")
    solved = entry.solved
    assert solved is not None
    assert (solved.policy, solved.source) == (found["policy"], "table")
    assert [each.upto_ms for each in solved.exits] == found["upto_ms"]
    to_the_end, uniform, *_ = solved.outcomes
    assert solved.exits[-1].accuracy == to_the_end.accuracy
    assert not to_the_end.curve
    assert 2 <= len(uniform.curve) <= 16
    assert all(a.mean_ms >= b.mean_ms for a, b in pairwise(uniform.curve))
    for one in solved.outcomes:
        assert one.accuracy == found["policies"][one.name]["accuracy"]
        assert list(one.stops) == found["policies"][one.name]["shares"]
    exits = exits_of(Bundle.open(path).manifest, entry)
    assert [each.name for each in exits] == ["stages.0.0", "stages.1.1", "end"]
    assert exits[-1].condition == "always"
    printed = skipc("show", path).out
    assert f"Its tests are those of: {solved.policy}." in printed
    assert all(each.cells[1] in printed for each in exits)
    page = page_of(read_study(path, [], path.parent / "page.html"))
    (routes,) = (section for section in page.sections if section.name == "routes")
    figure = policies_chart("policies-0", "early: policies", solved).figure()
    plotly.graph_objects.Figure(figure)  # refuses what Plotly does not know
    assert all(one.name in routes.content for one in solved.outcomes)
    # Two configurations have exits, one of them a solved policy.
    assert routes.content.count("Not certified") == 2
    assert routes.content.count('id="policies-') == 4


def test_a_bound_is_certified_and_shown(here: Path) -> None:
    path = here / "ckpt.skipc"
    ended = skipc("policy", path, *ASKED, "--max-disagreement", 0.3, "--sure", 0.95)
    assert ended.code == 0, ended.err
    certificate = Bundle.open(path).manifest.configuration("early").certificate
    assert certificate is not None
    assert (certificate.kind, certificate.bound) == ("max-disagreement", 0.3)
    assert (certificate.confidence, certificate.samples) == (0.95, 216)
    assert certificate.target == "cpu"
    text = (
        "at most 30 % of the samples are answered otherwise than by the last exit, sure to"
        f" 95 % ({certificate.failures} of 216 were)"
    )
    assert certificate.cuts is not None
    assert certificate.cuts.samples == 144
    first, second = (percent_up(each.bound) for each in certificate.cuts.exits)
    text = (
        f"Certified: {text}. If a deadline cuts the route, at most so many are: at stages.0.0"
        f" {first}, at stages.1.1 {second}."
    )
    assert text in " ".join(ended.out.split())
    assert text in " ".join(skipc("show", path).out.split())
    (section,) = (
        each
        for each in page_of(read_study(path, [], path.parent / "page.html")).sections
        if each.name == "routes"
    )
    assert text in section.content
    with AdaptiveEngine.open(path) as engine:
        engine.pin("early")
        for image in load_digits().report.images[:40]:
            engine(image[None], deadline_ms=1e-3, hard=True)
        cut = [call for call in engine.trace() if call.stopped_by == "deadline"]
        assert cut  # not every test says at once that it is enough
        for call in cut:
            limit = engine.limit_of(call)
            assert limit is not None
            assert limit.share == max(each.bound for each in certificate.cuts.exits)
    # Another policy, without a bound: what was certified is gone.
    assert skipc("policy", path, *ASKED).code == 0
    assert Bundle.open(path).manifest.configuration("early").certificate is None


def test_what_cannot_be_certified_changes_nothing(here: Path) -> None:
    path = here / "ckpt.skipc"
    before = (path / "manifest.json").read_bytes()
    told = mistake("policy", path, *ASKED, "--max-disagreement", 0.001)
    assert "nothing holds --max-disagreement 0.001 with --sure 0.9" in told
    assert "With that rate 2302 samples would do. Nothing was changed." in told
    assert (path / "manifest.json").read_bytes() == before


def test_the_graphs_answer_where_there_are_no_engines(here: Path) -> None:
    path = here / "ckpt.skipc"
    built = skipc("policy", path, *ASKED, "--json").json()
    shutil.rmtree(path / "engines")
    found = skipc("policy", path, *ASKED, "--json").json()
    assert found["source"] == "macs"
    assert found["policies"]["to the end"] == {
        **built["policies"]["to the end"],
        "mean_ms": pytest.approx(found["upto_ms"][-1]),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--configuration", "earl"), "Did you mean 'early'?"),
        (("--configuration", "short"), "no configuration with several exits"),
        (("--max-drop", "1", "--max-error", "0.1"), "--max-drop and --max-error: give one"),
        (("--sure", "0.9"), "--sure: only with a bound"),
        (("--max-error", "2"), "2.0 is not in the range 0<x<1"),
        (("--max-drop", "1", "--sure", "1"), "1.0 is not in the range 0<x<1"),
        (("--samples", "40"), "3 exits, but a part of the data has 40 samples: each part"),
        (("--parts", "1:2:3"), "write 4 whole numbers, e.g. 30:20:30:20"),
        (("--parts", "1:2:3:4"), "digits has fixed parts"),
        (("--target", "null"), "it computes nothing"),
        (("--front", "elsewhere.json"), "elsewhere.json"),
    ],
)
def test_a_mistake_is_one_sentence(
    with_exits: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in mistake("policy", with_exits / "ckpt.skipc", *ASKED, *arguments)


def test_labels_must_be_classes(with_exits: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    images = np.zeros((400, 1, 8, 8), np.float32)
    for labels, message in (
        (np.arange(400) % 11, "labels reach from 0 to 10, but the network has 10 classes"),
        (np.arange(400) / 400, "targets must be whole numbers, one per sample"),
    ):
        np.savez(data, x=images, y=labels)
        asked = ("--data", data, "--configuration", "early")
        assert message in mistake("policy", with_exits / "ckpt.skipc", *asked)


def test_what_was_used_before_certifies_nothing(here: Path, tmp_path: Path) -> None:
    data, known = tmp_path / "data.npz", load_digits().train
    np.savez(data, x=known.images, y=known.labels)
    asked = ("--data", data, "--configuration", "early")
    told = mistake("policy", here / "ckpt.skipc", *asked, "--max-drop", 5)
    assert "of 64 samples drawn from those used for the heads are among" in told
    assert "those for the bound and the report." in told
    assert "leave the bound out" in told
    warned = " ".join(skipc("policy", here / "ckpt.skipc", *asked).err.split())
    assert "of 64 samples drawn from those used for the heads are among" in warned
    assert "among those for the report. Its accuracies look better than they are." in warned


def test_which_configuration_must_be_said(with_exits: Path, made: Path) -> None:
    told = mistake("policy", with_exits / "ckpt.skipc", "--data", "digits")
    assert "2 configurations have several exits: early, less. Name one" in told
    told = mistake("policy", made / "ckpt.skipc", "--data", "digits")
    assert "no configuration of 'ckpt' has several exits" in told
