"""`skipc select --exits`: from a checkpoint with heads to a front that builds as it is."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from skipc.compiler.front import read_front
from skipc.compiler.recipes.digits_data import load_digits
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from tests.command_line import mistake, skipc

HEADS = ("stages.0.1", "stages.1.1")
EXITS = ("--data", "digits", "--exits", "--cost", "macs", "--evaluations", 8, "--size", 3,
         "--norm", "scalar")  # fmt: skip


@pytest.fixture(scope="module")
def selected(trained, tmp_path_factory):
    """A folder with a trained network, its heads, what was selected, and its bundle."""
    folder = tmp_path_factory.mktemp("selected")
    shutil.copy(trained / "ckpt.pt", folder)
    for arguments in (
        ("heads", folder / "ckpt.pt", "--data", "digits", "--at", ",".join(HEADS)),
        ("select", folder / "ckpt.pt", *EXITS, "--out", folder / "front.json"),
        ("build", folder / "ckpt.pt", "--front", folder / "front.json", "--target", "cpu"),
    ):  # fmt: skip
        ended = skipc(*arguments)
        assert ended.code == 0, ended.err
        (folder / f"{arguments[0]}.txt").write_text(ended.out, encoding="utf-8")
    return folder


def test_the_engines_answer_where_and_as_it_was_said(selected):
    front = read_front(selected / "front.json")
    early = [entry for entry in front.configurations if entry.tests]
    assert early
    report = load_digits().report
    with AdaptiveEngine.open(selected / "ckpt.skipc", threads=1) as engine:
        for entry in early:
            engine.pin(entry.name)
            right, stages = [], []
            for image, label in zip(report.images, report.labels, strict=True):
                right.append(engine(image[None]).argmax() == label)
                stages.append(engine.last.stage)
            # Batches round otherwise, which matters at a threshold.
            near = 2.1 / len(right)
            assert np.mean(right) == pytest.approx(entry.metrics["accuracy"], abs=near)
            shares = np.bincount(stages, minlength=len(entry.stops)) / len(stages)
            np.testing.assert_allclose(shares, entry.stops, atol=near)


def test_the_front_says_what_was_taken_and_why(selected):
    front = read_front(selected / "front.json")
    table = (selected / "select.txt").read_text(encoding="utf-8")
    page = (selected / "front.html").read_text(encoding="utf-8")
    manifest = Bundle.open(selected / "ckpt.skipc").manifest
    assert front.options["exits"] == HEADS
    # No chosen one lies above the steps, routes included.
    traces = {
        name: list(zip(json.loads(x), json.loads(y), strict=True))
        for name, x, y in re.findall(
            r'"name":"(front|chosen)".*?"x":(\[.*?\]),"y":(\[.*?\])', page
        )
    }
    for cost, score in traces["chosen"]:
        assert score <= max(step for at, step in traces["front"] if at <= cost)
    # What chose them, so that nothing is certified by it.
    used = manifest.provenance.data_sketches
    assert used.keys() == {"the network", "the configurations", "the heads"}
    assert front.configurations[0].name == "full"
    for entry in front.configurations:
        assert entry.name in page
        exits = entry.choices.get("exits", ["end"])
        assert len(manifest.configuration(entry.name).route) == len(exits)
        assert len(set(exits)) == len(exits)
        if entry.tests:
            why = front.provenance[f"policy of {entry.name}"]
            assert "of what it takes to its end" in why
            assert why[:40] in table
            assert all(share > 0 for share in entry.stops[:-1])
    # Routes with the same exits run the same graphs, whatever their tests.
    ways = {tuple(entry.choices["exits"]) for entry in front.configurations if entry.tests}
    assert len({graph.file for graph in manifest.graphs}) <= 3 + len(ways)
    one_graph = [entry for entry in front.configurations if not entry.tests]
    assert len(one_graph) <= 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--metric", "a:b"), "--exits with --metric a:b: tests are solved for right answers"),
        (("--cost", "parameters"), "--exits with --cost parameters: a route holds all"),
        (("--parts", "1:1:1"), "--parts '1:1:1': with --exits write 4 shares"),
        (("--samples", "50"), "3 exits, but a part of --data has 50 samples: each needs 20"),
    ],
)
def test_mistakes_are_told_before_the_search(selected, tmp_path, options, says):
    out = tmp_path / "front.json"
    told = mistake("select", selected / "ckpt.pt", *EXITS, "--out", out, *options)
    assert says in told
    assert not out.exists()


def test_exits_need_heads_and_other_parts_need_exits(selected, tmp_path):
    shutil.copy(selected / "ckpt.pt", tmp_path)
    without = ("select", tmp_path / "ckpt.pt", "--data", "digits")
    assert "no heads lie beside" in mistake(*without, "--exits")
    told = mistake(*without, "--parts", "1:1:1:1")
    assert "without --exits write 3 shares, e.g. 20:40:40" in told
