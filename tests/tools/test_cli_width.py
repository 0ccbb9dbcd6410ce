from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from skipc.runtime.bundle import Bundle
from tests.command_line import mistake, skipc

if TYPE_CHECKING:
    from pathlib import Path

FRONT = {
    "format": "skipc.front/2",
    "configurations": [
        {"name": "full"},
        {"name": "half", "width": {"stages": 0.5}},
        {"name": "other", "width": {"stages.0": 4, "stages.1": 12}},
        {"name": "less", "skip": ["stages.1.0"], "width": {"stages": 0.5}},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("width")
    recipe = find_recipe("resnet")
    arguments = {"widths": [8, 16], "depths": [1, 2]}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = recipe.load()(**arguments)
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
    save_checkpoint(
        path / "ckpt.pt",
        CheckpointFile("skipc:resnet", arguments, network.state_dict(), recipe.inputs),
    )
    (path / "front.json").write_text(json.dumps(FRONT), encoding="utf-8")
    return path


def test_widths_are_built_shown_and_checked(folder: Path) -> None:
    out = folder / "ckpt.skipc"
    ended = skipc(
        *("build", folder / "ckpt.pt", "--front", folder / "front.json", "--target", "cpu"),
        *("--norm", "scalar", "--reestimate", "digits"),
    )
    assert ended.code == 0, ended.err
    manifest = Bundle.open(out).manifest
    assert len(manifest.graphs) == 4  # two that narrow the same layers differently
    full, half = manifest.graph("full"), manifest.graph("half")
    assert full.macs > half.macs > manifest.graph("less").macs
    assert full.parameters > half.parameters
    names = [option.name for option in manifest.options("width")]
    assert names == [
        "stages.0.0.branch.0.0:4",
        *(f"stages.1.{block}.branch.0.0:{count}" for block in (0, 1) for count in (12, 8)),
    ]
    assert manifest.configuration("other").taken("width") == (names[0], names[1], names[3])
    assert manifest.configuration("half").text("width") == "3 groups 50 % wide"
    assert "3 groups 50 % wide" in skipc("show", out).out
    assert skipc("check", out).code == 0


def test_units_lists_what_may_be_narrower(folder: Path) -> None:
    rows = [line.split() for line in skipc("units", folder / "ckpt.pt").out.splitlines()]
    title = ["#", "width", "parameters", "share", "MACs", "share", "channels"]
    listed = rows[rows.index(title) + 1 :]
    assert [(row[1], row[-1]) for row in listed] == [
        ("stages.0.0.branch.0.0", "8"),
        ("stages.1.0.branch.0.0", "16"),
        ("stages.1.1.branch.0.0", "16"),
    ]
    found = skipc("units", folder / "ckpt.pt", "--json").json()["axes"]["width"]
    assert [group["channels"] for group in found] == [8, 16, 16]


def test_a_width_that_is_not_offered_stops_the_build(folder: Path, tmp_path: Path) -> None:
    front = {**FRONT, "configurations": [{"name": "a", "width": {"stages.1": 10}}]}
    (tmp_path / "front.json").write_text(json.dumps(front))
    told = mistake(
        *("build", folder / "ckpt.pt", "--front", tmp_path / "front.json"),
        *("--target", "cpu", "--out", tmp_path / "out.skipc"),
    )
    assert "keeps 10 channels of 'stages.1.0.branch.0.0'" in told
