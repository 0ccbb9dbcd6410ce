"""int8: latency over float32, and what six configurations of it hold over one.

Weights are random and so is the data: nothing here is about accuracy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.front import FrontEntry
from skipc.tools.bench.engines import opened
from skipc.tools.bench.harness import Bar, by_turns_ms, in_fresh_process, ratio
from skipc.tools.bench.networks import RESNET50, prepare
from skipc.tools.bench.sharing import built, run_of, weights_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.tools.bench.networks import Network

NAME = "int8"
_LIMITS = {RESNET50.name: {"int8": 0.33}}
_SAMPLES = 24
_ROUNDS = 20


def bars(network: Network, folder: Path) -> list[Bar]:
    """Builds float32 beside int8, and six configurations in int8; returns the bars."""
    prepare(network, folder)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(_SAMPLES, 3, 224, 224)).astype(np.float32)
    np.savez(folder / "data.npz", x=images, y=np.arange(_SAMPLES) % 5)
    words = (
        *("--model", f"transformers:{network.factory}", "--input", "1x3x224x224"),
        *("--calibrate", folder / "data.npz"),
        *("--tolerance", "0.5", "--engines"),  # random weights are not to answer anything
    )
    limits = _LIMITS.get(network.name, {"int8": 0.4, "int8-dynamic": 0.4})
    beside = (FrontEntry("fp32"), *(FrontEntry(p, {"precision": p}) for p in limits))
    times = built(folder, "precisions", beside, *words, "each")
    found = []
    for precision, limit in limits.items():
        pairs = by_turns_ms(run_of(times, precision), run_of(times, "fp32"), _ROUNDS)
        what = f"latency of {precision} over float32"
        found.append(Bar(network.name, what, ratio(pairs), limit))
    int8 = {"precision": "int8"}
    chosen = network.front(network.counts).configurations
    six = tuple(FrontEntry(entry.name, {**entry.choices, **int8}) for entry in chosen)
    one = built(folder, "one8", six[:1], *words, "each")
    each = built(folder, "each8", six, *words, "each")
    single = built(folder, "six8", six, *words, "one")
    held = {b: in_fresh_process(opened, b.path, 0)[1] for b in (one, each, single)}
    stored = weights_bytes(each) / weights_bytes(one)
    own = by_turns_ms(run_of(single, "skip0"), run_of(one, "skip0"), _ROUNDS)
    what = "six int8 configurations over one"
    return [
        *found,
        Bar(network.name, f"weights.bin of {what}", stored, 1.02),
        Bar(network.name, f"memory (PSS) of {what}, one session", held[single] / held[one],
            1.15, note=f"{held[single] / 1e6:.0f} MB"),
        Bar(network.name, "… a session each", held[each] / held[one], None),
        Bar(network.name, "latency of one int8 session over its own", ratio(own), None),
    ]  # fmt: skip
