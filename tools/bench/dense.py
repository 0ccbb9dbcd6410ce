"""A DenseNet-121 (random weights) with dense layers skipped: what it costs that all share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.front import FrontEntry
from skipc.tools.bench.harness import Bar, in_fresh_process
from skipc.tools.bench.networks import randomise
from skipc.tools.bench.sharing import Shared, built

if TYPE_CHECKING:
    from pathlib import Path

NAME = "DenseNet-121"
_LAYERS = (6, 12, 24, 16)
_SKIPPED = {"full": (), "three-quarters": (3,), "half": (1, 3)}
"""Of each four layers in a row, which a configuration skips."""


def bars(place: Path, pixels: int = 224) -> list[Bar]:
    """Builds the configurations together and alone; returns the bars of store and time."""
    folder = place / NAME
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "ckpt.pt").exists():
        in_fresh_process(write_checkpoint, folder / "ckpt.pt")
    words = (
        *("--model", "skipc.tools.bench.densenet:DenseNet"),
        *("--input", f"images=1x3x{pixels}x{pixels}"),
    )
    entries = {name: _entry(name) for name in _SKIPPED}
    shared = Shared(
        NAME,
        built(folder, "together", tuple(entries.values()), *words),
        {name: built(folder, name, (entry,), *words) for name, entry in entries.items()},
    )
    return [
        shared.over_alone(
            "latency over the same configuration alone, worst of 0, 25 and 50 % skipped"
        ),
        shared.faster("… latency of 50 % skipped over nothing skipped", "half", "full"),
        *shared.stores("of the three over the full network's alone", 1.02, 1.02),
    ]


def write_checkpoint(path: str) -> None:
    """Writes the network's state_dict, randomly initialised from a fixed seed."""
    import torch

    from skipc.tools.bench.densenet import DenseNet

    torch.manual_seed(0)
    module = DenseNet(_LAYERS)
    randomise(module)
    torch.save(module.state_dict(), path)


def _entry(name: str) -> FrontEntry:
    skipped = [
        f"blocks.{block}.layers.{layer}"
        for block, count in enumerate(_LAYERS)
        for layer in range(count)
        if layer % 4 in _SKIPPED[name]
    ]
    return FrontEntry(name, {"skip": skipped})
