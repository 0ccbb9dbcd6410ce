"""``skipc router``, up to the engine that goes by it."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from skipc.compiler.front import read_front
from skipc.compiler.recipes.digits_data import load_digits
from skipc.compiler.router import SCORES, network_of, read_router
from skipc.runtime import AdaptiveEngine, Budget
from skipc.runtime.bundle import Bundle
from skipc.runtime.call.tests import ways_of
from skipc.tools.report.page import page_of
from skipc.tools.report.study import read_study
from skipc.tools.views.routes import exits_of
from tests.command_line import mistake, skipc

if TYPE_CHECKING:
    from pathlib import Path

WAYS = ("short", "early", "full")
ASKED = ("--data", "digits", "--samples", "100", "--ways", "full,short,early")


@pytest.fixture(scope="module")
def routed(with_exits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a front that has a router, and the bundle of it; not to be changed."""
    here = shutil.copytree(with_exits, tmp_path_factory.mktemp("routed") / "here")
    bundle, front = here / "ckpt.skipc", here / "front.json"
    asked = ("--front", front, *ASKED, "--drop", "0.3,98,99", "--mean-ms", "1000", "--json")
    found = skipc("router", bundle, *asked)
    assert found.code == 0, found.err
    assert "routed-99 would be 'routed-" in found.err
    (here / "found.json").write_text(found.out)
    again = skipc(
        "build", here / "ckpt.pt", "--front", front, "--target", "cpu", "--overwrite"
    )
    assert again.code == 0, again.err
    return here


def test_a_router_is_written_beside_the_front(routed: Path) -> None:
    found = json.loads((routed / "found.json").read_text())
    assert sorted(found["ways"]) == sorted(WAYS)
    assert found["ties"] == 0
    front = read_front(routed / "front.json")
    others, (dropped, *_) = front.configurations[:4], front.configurations[4:]
    assert [one.name for one in others] == ["full", "short", "early", "less"]
    assert dropped.name == "routed-0.3"
    assert dropped.router is not None
    assert dropped.router.path == "front.routed.safetensors"
    told, *_ = found["entries"]
    outcome = told["outcome"]
    assert dropped.router.bias == told["bias"]
    assert dropped.metrics["accuracy"] == outcome["accuracy"]
    assert sum(outcome["shares"]) == pytest.approx(1.0)
    alone = {
        way: one["accuracy"] for way, one in zip(found["ways"], found["alone"], strict=True)
    }
    assert others[0].metrics["accuracy"] == alone["full"]


def test_the_engine_goes_where_pytorch_does(routed: Path) -> None:
    router = read_router(routed / "front.routed.safetensors")
    images = load_digits().report.images[:60]
    network = network_of(router, None, 1)
    (scores,) = network.reference.run([{"images": images}])
    entry = Bundle.open(routed / "ckpt.skipc").manifest.configuration("routed-0.3")
    test = entry.route[0].test
    assert test is not None
    assert entry.routed is not None
    assert entry.routed.ways == router.names
    expected = np.array(router.names)[ways_of(test, scores[SCORES])]
    with AdaptiveEngine.open(routed / "ckpt.skipc") as engine:
        seen, answers = [], []
        for image in images:
            engine.pin("routed-0.3")
            answers.append(engine({"images": image[None]})["output"])
            assert engine.last is not None
            (way,) = engine.last.route
            seen.append(way.partition(".")[0])
            engine.pin(seen[-1])
            np.testing.assert_array_equal(
                engine({"images": image[None]})["output"], answers[-1]
            )
        assert seen == expected.tolist()
        engine.pin(None)
        engine.budget = Budget(average_latency_ms=1000.0)
        engine({"images": images[:1]})
        assert engine.last.feasible
    assert skipc("check", routed / "ckpt.skipc").code == 0


def test_it_is_shown(routed: Path) -> None:
    manifest = Bundle.open(routed / "ckpt.skipc").manifest
    entry = manifest.configuration("routed-0.3")
    assert entry.routed is not None
    exits = exits_of(manifest, entry)
    assert exits[0].name == "router"
    assert {each.name.partition(" ")[0] for each in exits[1:]} == set(WAYS)
    assert exits[0].macs > 0
    shown = skipc("show", routed / "ckpt.skipc").out
    assert "never; sends on by its scores" in shown
    assert " | ".join(entry.routed.ways) in shown
    page = page_of(read_study(routed / "ckpt.skipc", [], routed / "page.html"))
    (section,) = (str(each.content) for each in page.sections if each.name == "routes")
    assert "routed-0.3: what other biases come to" in section


def test_a_bias_is_certified_by_policy(routed: Path, tmp_path: Path) -> None:
    path, front = tmp_path / "ckpt.skipc", tmp_path / "front.json"
    shutil.copytree(routed / "ckpt.skipc", path)
    shutil.copy(routed / "front.json", front)
    asked = ("--configuration", "routed-0.3", "--data", "digits", "--samples", "100")
    found = skipc(
        "policy", path, *asked, "--front", front, "--max-error", "0.95", "--json"
    ).json()
    assert found["policy"] == "router"
    entry = Bundle.open(path).manifest.configuration("routed-0.3")
    test, certificate = entry.route[0].test, entry.certificate
    assert test is not None
    assert certificate is not None
    assert found["certificate"]["failures"] == certificate.failures
    own = next(one for one in read_front(front).configurations if one.name == "routed-0.3")
    assert own.router is not None
    assert own.router.bias == test.bias
    refused = mistake("policy", path, *asked, "--max-error", "0.0001")
    assert "the safest bias loses" in refused
    # What the router was trained on certifies nothing.
    images, labels = load_digits().policy[0].images, load_digits().policy[0].labels
    np.savez(tmp_path / "seen.npz", images=images, y=labels)
    seen = ("--data", tmp_path / "seen.npz", *asked[:2], "--max-error", "0.9")
    assert "must not have been seen before" in mistake("policy", path, *seen)
    sketches = Bundle.open(path).manifest.provenance.data_sketches
    assert "the router front.routed.safetensors" in sketches


def _change(**entry: Any) -> Any:
    def change(front: dict[str, Any]) -> None:
        front["configurations"][-1].update(entry)

    return change


def _rename(front: dict[str, Any]) -> None:
    front["configurations"][1]["name"] = "shorter"


def _other_choice(front: dict[str, Any]) -> None:
    front["configurations"][1]["exits"] = ["stages.0.0"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_rename, "its router names 'short', which is no configuration"),
        (_other_choice, "trained for another 'short' than the front's"),
        (_change(skip=["stages.1.1"]), "'skip' stands beside 'router'"),
        (
            _change(router={"path": "no.safetensors", "sha256": "0" * 64}),
            "there is no such file",
        ),
        (
            _change(router={"path": "front.routed.safetensors", "sha256": "0" * 64}),
            "altered, or the router of another front",
        ),
        (_change(router={"path": "../x", "sha256": "0" * 64}), "the name of a file beside"),
        (_change(router={"path": "x", "sha256": "0" * 64, "bias": -1}), "'bias' must be"),
    ],
)
def test_a_router_that_does_not_fit_is_refused(
    routed: Path, tmp_path: Path, change: Any, says: str
) -> None:
    for file in ("ckpt.pt", "ckpt.heads.safetensors", "front.routed.safetensors"):
        shutil.copy(routed / file, tmp_path)
    front = json.loads((routed / "front.json").read_text())
    change(front)
    (tmp_path / "front.json").write_text(json.dumps(front))
    out = tmp_path / "out.skipc"
    options = ("--front", tmp_path / "front.json", "--target", "cpu", "--out", out)
    found = mistake("build", tmp_path / "ckpt.pt", *options)
    assert re.search(re.escape(says), " ".join(found.split()))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--ways", "ful"), "--ways 'ful': no configuration"),
        (("--ways", "full"), "1 configurations to choose from, expected 2"),
        (("--drop", "-1"), "--drop -1: expected points from 0 to 100"),
        (("--mean-ms", "0"), "--mean-ms 0: expected milliseconds above 0"),
        (("--target", "null"), "--target null"),
        (("--samples", "30"), "a part of the data has 30 samples"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    with_exits: Path, options: tuple[str, ...], says: str
) -> None:
    path = with_exits / "ckpt.skipc"
    asked = ("--front", with_exits / "front.json", "--data", "digits")
    assert says in mistake("router", path, *asked, *options)
