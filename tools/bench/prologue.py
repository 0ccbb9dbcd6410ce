"""Bytes of 224 by 224 pixels made what a network takes: in its graph, and before the call.

What it takes is the call with it less the same call of the same network on what it makes.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import numpy as np
import torch

from skipc.compiler.front import FrontEntry
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes.resnet import ResNet
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.tools.bench.harness import Bar, timed_ms
from skipc.tools.bench.sharing import built

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NAME = "prologue"
_ARGUMENTS = {"widths": [8, 16], "depths": [1, 1], "stem": "imagenet", "channels": 3}
_SHAPE = (1, 3, 224, 224)
_ROUNDS = 300
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


def bars(place: Path) -> list[Bar]:
    """Builds a small network with and without it; returns the bar of its time."""
    folder = place / NAME
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = ResNet(**_ARGUMENTS)  # type: ignore[arg-type]
    inputs = (TensorSpec("images", "float32", _SHAPE),)
    file = CheckpointFile("skipc:resnet", _ARGUMENTS, network.state_dict(), inputs)
    save_checkpoint(folder / "ckpt.pt", file)
    entries = (FrontEntry("full"),)
    plain = built(folder, "plain", entries).path
    camera = built(folder, "camera", entries, "--prologue", "uint8-nhwc,imagenet").path
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    images = _usual(pixels)
    with (
        AdaptiveEngine.open(camera, threads=1) as inside,
        AdaptiveEngine.open(plain, threads=1) as alone,
    ):
        calls = {
            "graph": lambda: inside(pixels),
            "usual": lambda: alone(_usual(pixels)),
            "in place": lambda: alone(_in_place(pixels)),
            "without": lambda: alone(images),
        }
        rounds = [
            {name: timed_ms(call) for name, call in calls.items()} for _ in range(_ROUNDS)
        ]
    ms = {name: statistics.median(each[name] for each in rounds) for name in calls}
    takes = {name: each - ms["without"] for name, each in ms.items()}
    what = "uint8-nhwc,imagenet at 224 x 224, in the graph over NumPy before the call"
    note = ", ".join(f"{name} {takes[name]:.2f} ms" for name in ("graph", "usual", "in place"))
    return [
        Bar(NAME, what, takes["graph"] / takes["usual"], 0.5, note=note),
        Bar(NAME, "… over NumPy that multiplies in place", takes["graph"] / takes["in place"],
            None),
    ]  # fmt: skip


def _usual(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns what most applications write."""
    images = (pixels.astype(np.float32) / 255 - _MEAN) / _STD
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _in_place(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the same, turned round first and with one array."""
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
    images *= (1 / (255 * _STD)).reshape(3, 1, 1)
    images -= (_MEAN / _STD).reshape(3, 1, 1)
    return images
