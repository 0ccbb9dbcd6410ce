"""Dense layers from the command line: with exits and precision, on disk and shown."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING

import pytest
import torch

from skipc.compiler.heads import write_heads
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.tensors import TensorSpec
from tests.command_line import hide_tests, mistake, skipc
from tests.exits import heads_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = """
import torch
from torch import nn


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 96, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(96 + 16 * n, 16, 3, padding=1) for n in range(3))
        self.norm, self.head = nn.BatchNorm2d(144), nn.Linear(144, 10)

    def forward(self, images):
        x = torch.relu(self.stem(images))
        for layer in self.layers:
            x = torch.cat([x, torch.relu(layer(x))], 1)
        return self.head(torch.relu(self.norm(x)).mean((2, 3)))
"""
NETWORK = ("--model", "own_dense:Dense", "--input", "images=1x1x8x8")
CONFIGURATIONS = [
    {"name": "full"},
    {"name": "less", "skip": ["layers.1"]},
    {"name": "least", "skip": ["layers"], "precision": "fp16"},
    {
        "name": "early",
        "skip": ["layers.0"],
        "exits": ["layers.1", "end"],
        "tests": [{"threshold": 0.5}],
    },
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("dense")
    (path / "own_dense.py").write_text(SOURCE, encoding="utf-8")
    front = {"format": "skipc.front/2", "configurations": CONFIGURATIONS}
    (path / "front.json").write_text(json.dumps(front), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path)
        hide_tests(patch)
        torch.manual_seed(0)
        module = importlib.import_module("own_dense").Dense()
        torch.save(module.state_dict(), path / "w.pt")
        options = ModelOptions(
            model=NETWORK[1], inputs=(TensorSpec("images", "float32", (1, 1, 8, 8)),)
        )
        network = read_checkpoint(path / "w.pt", options).exported()
        write_heads(path / "w.pt", heads_for(network, ["layers.1"]))
        ended = skipc(
            *("build", path / "w.pt", "--front", path / "front.json", "--target", "cpu"),
            *("--out", path / "w.skipc", *NETWORK),
        )
        assert ended.code == 0, ended.err
        yield path


def test_dense_layers_are_built_with_exits_and_precision(folder: Path) -> None:
    manifest = Bundle.open(folder / "w.skipc").manifest
    assert manifest.configuration("least").taken("skip") == (
        "layers.0",
        "layers.1",
        "layers.2",
    )
    assert len(manifest.configuration("early").route) == 2
    full, less, least = (manifest.graph(name) for name in ("full", "less", "least"))
    assert full.macs > less.macs > least.macs
    assert full.parameters > less.parameters > least.parameters
    shown = skipc("show", folder / "w.skipc").out.splitlines()
    line = next(line for line in shown if line.startswith("less"))
    assert " 0 B " in line  # all its weights are the full network's
    assert skipc("check", folder / "w.skipc").code == 0


def test_a_report_is_made_of_dense_layers(folder: Path) -> None:
    ended = skipc("report", folder / "w.skipc", "--out", folder / "report.html")
    assert ended.code == 0, ended.err
    assert "layers.1" in (folder / "report.html").read_text()


def test_one_engine_for_all_is_refused_with_the_reason(folder: Path) -> None:
    front = {"format": "skipc.front/2", "configurations": CONFIGURATIONS[:2]}
    (folder / "two.json").write_text(json.dumps(front), encoding="utf-8")
    said = mistake(
        *("build", folder / "w.pt", "--front", folder / "two.json", "--target", "cpu"),
        *("--out", folder / "two.skipc", "--engines", "one", *NETWORK),
    )
    assert "'layers.1' is not seen in full.onnx, as no dense layer is" in said
