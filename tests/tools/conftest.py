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


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ckpt.pt, front.json and the bundle ckpt.skipc; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    recipe = find_recipe("resnet")
    arguments = {"widths": [4, 8, 8]}
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
