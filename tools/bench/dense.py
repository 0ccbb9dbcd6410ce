"""A DenseNet-121 (random weights) with dense layers skipped: what it costs that all share.

What is compared is the same configuration alone in its bundle: there each kernel is one, and
has the input channels that the configuration has.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.runtime import Bundle
from skipc.runtime.backends import open_backend
from skipc.tools.bench.harness import Bar, by_turns_ms, in_fresh_process, ratio, skipc
from skipc.tools.bench.networks import randomise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "DenseNet-121"
_LAYERS = (6, 12, 24, 16)
_SKIPPED = {"full": (), "three-quarters": (3,), "half": (1, 3)}
"""Of each four layers in a row, which a configuration skips."""
_ROUNDS = 40


def bars(place: Path, pixels: int = 224) -> list[Bar]:
    """Builds the configurations together and alone; returns the bars of store and time."""
    folder = place / NAME
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "ckpt.pt").exists():
        in_fresh_process(write_checkpoint, folder / "ckpt.pt")
    entries = {name: _entry(name) for name in _SKIPPED}
    together = _built(folder, "together", Front(tuple(entries.values())), pixels)
    alone = {name: _built(folder, name, Front((e,)), pixels) for name, e in entries.items()}
    over = {}
    for name, bundle in alone.items():
        runs = (run_of(together, name), run_of(bundle, name))
        over[name] = ratio(by_turns_ms(*runs, _ROUNDS))
    worst = max(over, key=lambda name: over[name])
    listed = ", ".join(f"{name} {each:.3f}" for name, each in over.items())
    faster = ratio(by_turns_ms(run_of(together, "half"), run_of(together, "full"), _ROUNDS))
    files = {"weights.bin": weights_bytes, "packed store": packed_bytes}
    return [
        Bar(NAME, "latency over the same configuration alone, worst of 0, 25 and 50 % skipped",
            over[worst], 1.01, note=listed),
        Bar(NAME, "… latency of 50 % skipped over nothing skipped", faster, None),
        *(
            Bar(NAME, f"{what} of the three over the full network's alone",
                size(together) / size(alone["full"]), 1.02,
                note=f"{size(together) / 1e6:.1f} MB; of three bundles"
                f" {sum(map(size, alone.values())) / 1e6:.1f} MB")
            for what, size in files.items()
        ),
    ]  # fmt: skip


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


def _built(folder: Path, name: str, front: Front, pixels: int) -> Bundle:
    """Returns the bundle of a front, built if it is not there."""
    path = folder / f"{name}.skipc"
    if not path.exists():
        write_front(folder / f"{name}.json", front)
        skipc(
            *("build", folder / "ckpt.pt", "--front", folder / f"{name}.json"),
            *(
                "--target",
                "cpu",
                "--out",
                path,
                "--model",
                "skipc.tools.bench.densenet:DenseNet",
            ),
            *("--input", f"images=1x3x{pixels}x{pixels}"),
        )
    return Bundle.open(path)


def run_of(bundle: Bundle, name: str) -> Callable[[], object]:
    """Returns what calls a configuration's engine."""
    (graph,) = bundle.manifest.graphs_of(bundle.manifest.configuration(name))
    engine = open_backend(bundle, bundle.engine_set("cpu"), 1).load(graph.name)
    return partial(engine.run, bundle.golden_inputs()[0])


def weights_bytes(bundle: Bundle) -> int:
    """Returns the size of a bundle's weight store."""
    return sum(tensor.size_bytes for tensor in bundle.manifest.weights)


def packed_bytes(bundle: Bundle) -> int:
    """Returns the size of the store that its engines for CPUs share."""
    engines = bundle.engine_set("cpu")
    return next(f.size_bytes for f in engines.files if f.path == engines.packed_file)
