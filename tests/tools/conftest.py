"""One small network, trained by nobody, and its bundle; built once per process."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from tests.command_line import skipc
from tests.operators import operators_once

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["operators_once"]

FRONT = {
    "format": "skipc.front/1",
    "configurations": [
        {"name": "full", "skip": [], "metrics": {"accuracy": 0.99}},
        {
            "name": "fast",
            "skip": ["stages.1.1", "stages.2.2"],
            "metrics": {"accuracy": 0.95},
        },
    ],
}

EXITS = ["stages.0.0", "stages.1.1"]
CONFIGURATIONS = [
    {"name": "full"},
    {"name": "short", "exits": ["stages.1.1"]},
    {
        "name": "early",
        "exits": ["end", *EXITS],
        "tests": [{"threshold": 0.3}, {"threshold": 0.2, "scores": {"margin": 1.0}}],
        "stops": [0.5, 0.25, 0.25],
    },
    {
        "name": "less",
        "skip": ["stages.1.0"],
        "exits": ["stages.1.1", "end"],
        "tests": [{"threshold": 2.0, "temperature": 3.0}],
    },
]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ckpt.pt, front.json and the bundle ckpt.skipc; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    recipe = find_recipe("resnet")
    arguments = {"widths": [4, 8, 8], "depths": [2, 3, 3]}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = recipe.load()(**arguments)
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
    checkpoint = CheckpointFile("skipc:resnet", arguments, network.state_dict(), recipe.inputs)
    save_checkpoint(folder / "ckpt.pt", checkpoint)
    (folder / "front.json").write_text(json.dumps(FRONT), encoding="utf-8")
    ended = skipc(
        "build", folder / "ckpt.pt", "--front", folder / "front.json", "--target", "cpu"
    )
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    """A copy of ``made`` to change, with inputs images.npy and images.npz beside it."""
    folder = tmp_path / "work"
    shutil.copytree(made, folder)
    images = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    np.save(folder / "images.npy", images)
    np.savez(folder / "images.npz", images=images)
    return folder


@pytest.fixture(scope="session")
def with_exits(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ckpt.pt, its heads, front.json and a bundle; not to be changed."""
    folder = tmp_path_factory.mktemp("exits")
    shutil.copy(made / "ckpt.pt", folder)
    ended = skipc("heads", folder / "ckpt.pt", "--data", "digits", "--at", ",".join(EXITS))
    assert ended.code == 0, ended.err
    rows = [line.split() for line in ended.out.splitlines()]
    assert rows[0] == ["head", "after", "of", "the", "MACs", "accuracy"]
    assert [row[0] for row in rows[1:3]] == EXITS
    assert all(row[-1] == "written" for row in rows[1:3])
    assert ended.out.endswith("Name them under 'exits' in front.json.\n")
    front = {"format": "skipc.front/2", "configurations": CONFIGURATIONS}
    (folder / "front.json").write_text(json.dumps(front))
    ended = skipc(
        "build", folder / "ckpt.pt", "--front", folder / "front.json", "--target", "cpu"
    )
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a briefly trained network of six units, two a stage; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    ended = skipc(
        *("train", "stochastic-depth", "--epochs", 4, "--out", folder),
        *("--network-arg", "widths=[8,8,16]", "--network-arg", "depths=[2,2,2]"),
    )
    assert ended.code == 0, ended.err
    return folder
