"""Early exits from the command line: heads, front, build, check, calls."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from skipc.compiler.heads import read_heads
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from skipc.tools.report.sections import summary
from skipc.tools.report.sections.units import Evidence, states
from skipc.tools.report.study import read_study
from skipc.tools.trtbench.report import read_report
from tests.command_line import hide_tests, mistake, skipc, trtbench
from tests.tools.conftest import CONFIGURATIONS, EXITS


def test_units_list_the_heads(with_exits: Path) -> None:
    told = skipc("units", with_exits / "ckpt.pt").out
    heads = read_heads(with_exits / "ckpt.pt")
    assert [head.name for head in heads] == EXITS
    listed, _, _ = told.split("exits")[1].partition("\n\n")
    rows = [line.split() for line in listed.splitlines()[1:]]
    assert [(*row[:2], *row[-2:]) for row in rows] == [
        (str(i), head.name, f"{100 * head.accuracy:.1f}", "%") for i, head in enumerate(heads)
    ]
    documents = skipc("units", with_exits / "ckpt.pt", "--json").json()["axes"]["exits"]
    assert [one["accuracy"] for one in documents] == [head.accuracy for head in heads]


def test_a_route_has_a_stage_for_each_exit(with_exits: Path) -> None:
    manifest = Bundle.open(with_exits / "ckpt.skipc").manifest
    assert [g.name for g in manifest.graphs] == [
        *("full", "short", "early.0", "early.1", "early.2", "less.0", "less.1")
    ]
    early = manifest.configuration("early")
    assert early.stops == (0.5, 0.25, 0.25)
    assert early.text("exits") == "3 exits"
    assert early.taken("exits") == tuple(EXITS)
    first, second, last = early.route
    assert (first.feeds, last.answers, last.test) == ({}, {}, None)
    assert list(second.feeds.values()) == [f"0.{name}" for name in second.feeds]
    assert manifest.configuration("short").only_graph == "short"
    # Nothing is stored or computed twice.
    macs = sum(manifest.graph(f"early.{stage}").macs for stage in range(3))
    heads = 10 * (4 + 8)
    assert macs == manifest.graph("full").macs + heads
    sizes = [manifest.graph(f"early.{stage}").parameters for stage in range(3)]
    assert sum(sizes) - manifest.graph("full").parameters < 200


def test_what_was_built_checks_and_shows(with_exits: Path) -> None:
    checked = skipc("check", with_exits / "ckpt.skipc")
    assert checked.code == 0, checked.err
    assert checked.out.count(" ok\n") + checked.out.count(" ok ") == len(CONFIGURATIONS)
    shown = skipc("show", with_exits / "ckpt.skipc").out
    assert "ends at stages.1.1" in shown
    assert "early.2" in shown


def test_a_sample_is_answered_where_its_test_says(with_exits: Path) -> None:
    bundle = Bundle.open(with_exits / "ckpt.skipc")
    images = np.random.default_rng(0).random((12, 1, 1, 8, 8), np.float32)
    with AdaptiveEngine.open(bundle.path, threads=1) as engine:
        answers = {}
        for name in ("full", "short", "early", "less"):
            engine.pin(name)
            answers[name] = []
            for image in images:
                (answer,) = engine({"images": image}).values()
                assert engine.last is not None
                answers[name].append((engine.last.stage, answer))
    full, short = ([a for _, a in answers[name]] for name in ("full", "short"))
    for number, (stage, answer) in enumerate(answers["early"]):
        assert stage in (0, 1, 2)
        if stage:
            assert np.array_equal(answer, (short, full)[stage - 1][number])
    # A test that nothing passes: to the end.
    assert [stage for stage, _ in answers["less"]] == [1] * len(images)


def test_the_report_shows_what_lies_behind_an_exit_and_no_file_twice(
    with_exits: Path,
) -> None:
    study = read_study(with_exits / "ckpt.skipc", (), with_exits / "page.html")
    rows = states(study.manifest, study.manifest.networks[0], study.subnets)
    assert {cell.evidence for cell in rows["early"]} == {Evidence.KEPT}
    kept = [Evidence.KEPT] * 4  # up to stages.1.1
    assert [cell.evidence for cell in rows["short"]] == [*kept, *[Evidence.BEHIND] * 4]
    files = len({graph.file for graph in study.manifest.graphs})
    assert str(summary.section(study).content).count(".onnx</a>") == files
    early = [s.size_bytes for s in study.sharing.sets if "early" in s.configurations]
    heads = [study.manifest.graph(f"early.{stage}").weights_bytes for stage in range(3)]
    assert sum(early) == sum(heads)


def test_heads_of_another_checkpoint_stop_a_build(with_exits: Path, tmp_path: Path) -> None:
    for name in ("ckpt.heads.safetensors", "front.json"):
        shutil.copy(with_exits / name, tmp_path)
    (tmp_path / "ckpt.pt").write_bytes((with_exits / "ckpt.pt").read_bytes() + b" ")
    told = mistake(
        *("build", tmp_path / "ckpt.pt", "--front", tmp_path / "front.json"),
        *("--target", "cpu"),
    )
    assert "trained on other weights" in told
    assert not (tmp_path / "ckpt.skipc").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--at", "stages.0.9"), "--at 'stages.0.9': no head goes there. Did you mean"),
        (("--at", "stages.2.2"), "no head goes there"),
        (("--count", "0"), "--count"),
        (("--mean", "a,b"), "--mean 'a,b': write numbers"),
    ],
)
def test_mistakes_are_told(with_exits: Path, options: tuple[str, ...], says: str) -> None:
    before = (with_exits / "ckpt.heads.safetensors").read_bytes()
    assert says in mistake("heads", with_exits / "ckpt.pt", "--data", "digits", *options)
    assert (with_exits / "ckpt.heads.safetensors").read_bytes() == before


def test_a_transformer_trained_with_its_exits_is_built_at_once(tmp_path: Path) -> None:
    made = skipc(
        "train", "early-exit", "--network", "vit", "--heads", 1, "--epochs", 1,
        "--network-arg", "width=16", "--network-arg", "depth=3", "--network-arg", "patch=4",
        "--out", tmp_path,
    )  # fmt: skip
    assert made.code == 0, made.err
    (head,) = read_heads(tmp_path / "ckpt.pt")
    assert head.name == "layers.1.mlp"
    assert f"after layers.1.mlp: {100 * head.accuracy:.2f} %" in made.out
    assert str(tmp_path / "ckpt.heads.safetensors") in made.out
    exits = {"exits": [head.name, "end"], "tests": [{"threshold": 0.5}]}
    front = {"format": "skipc.front/2", "configurations": [{"name": "early", **exits}]}
    (tmp_path / "front.json").write_text(json.dumps(front))
    built = skipc(
        "build", tmp_path / "ckpt.pt", "--front", tmp_path / "front.json", "--target", "cpu"
    )
    assert built.code == 0, built.err
    assert len(Bundle.open(tmp_path / "ckpt.skipc").manifest.configuration("early").route) == 2
    for wrong in ("width=3", "width=True"):  # which the recipe's network has not
        ended = skipc("train", "early-exit", "--network-arg", wrong, "--out", tmp_path)
        assert ended.code == 2
        assert "--network-arg" in ended.err
        assert "--model-arg" not in ended.err
    said = mistake("train", "sub-paths", "--heads", 2, "--out", tmp_path)
    assert "--heads: only early-exit trains heads, not sub-paths." in said


_MIXER = """
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.tokens = nn.LayerNorm(4), nn.Linear(9, 9)

    def forward(self, x):
        return x + self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.head = nn.Conv2d(1, 4, 2, 2), nn.Linear(4, 2)
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, image):
        return self.head(self.blocks(self.patch(image).flatten(2).transpose(1, 2)).mean(1))
"""


def test_heads_read_tensors_that_a_free_batch_names_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_tests(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mixing.py").write_text(_MIXER, encoding="utf-8")
    mixing = importlib.import_module("mixing")
    torch.save(mixing.Mixer().state_dict(), "net.pt")
    monkeypatch.delitem(sys.modules, "mixing")
    random = np.random.default_rng(0)
    np.savez("data.npz", x=random.random((40, 1, 6, 6), np.float32), y=np.arange(40) % 2)
    asked = ("net.pt", "--model", "mixing:Mixer", "--input", "1x1x6x6", "--data", "data.npz")
    ended = skipc("heads", *asked, "--at", "blocks.0", "--samples", "40")
    assert ended.code == 0, ended.err
    assert [head.name for head in read_heads(tmp_path / "net.pt")] == ["blocks.0"]


def test_a_table_of_this_device_has_every_stage(with_exits: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "ckpt.skipc"
    shutil.copytree(with_exits / "ckpt.skipc", bundle)
    options = ("--warmUp", 1, "--duration", 0, "--iterations", 12, "--threads", 1)
    ended = trtbench(bundle, *options, "--update", "--json", tmp_path / "found.json")
    assert ended.code == 0, ended.err
    assert "stages of" in ended.out
    found = {one.name: one for one in read_report(tmp_path / "found.json").configurations}
    assert [stage.answered for stage in found["early"].stages] == [0.5, 0.25, 0.25]
    with AdaptiveEngine.open(bundle, threads=1) as engine:
        points = {one.configuration: one for one in engine.stats().configurations}
    for name in ("early", "less"):
        assert points[name].source == "measured"
        assert points[name].upto_ms == tuple(s.upto_ms for s in found[name].stages)
