"""Gates: what deciding and switching costs, whatever is decided; bits are checked when built.

The gates have random weights; what they decide is set from outside.
"""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.gates import places_before
from skipc.compiler.family import open_family
from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.compiler.gates import Gate, Gates, write_gates
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.runtime import Bundle
from skipc.runtime.backends import open_backend
from skipc.runtime.bundle.gates import DECISIONS, EVERYTHING, THRESHOLDS
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.tools.bench.harness import Bar, by_turns_ms, ratio, skipc
from skipc.tools.bench.networks import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.tools.bench.networks import Network

_ROUNDS = 20
_HIDDEN = 8


def bars(network: Network, folder: Path) -> list[Bar]:
    """Returns what an engine with gates takes, over engines that know what runs."""
    path = folder / "gated.skipc"
    if not path.exists():
        _build(network, folder, path)
    bundle = Bundle.open(path)
    entries = {entry.graph: entry for entry in bundle.engine_set("cpu").engines}
    backend = open_backend(bundle, bundle.engine_set("cpu"), 1)
    case, units = bundle.golden_inputs()[0], bundle.manifest.graph("gated").gates
    full, none, gated = (backend.load(name) for name in ("full", "none", "gated"))
    found = []
    for own, threshold in ((full, EVERYTHING), (none, -EVERYTHING)):
        told = {**case, THRESHOLDS: np.full(len(units), threshold, np.float32)}
        ran = gated.run(told)[DECISIONS]
        assert ran.all() if own is full else not ran.any()
        own.run(case)
        pairs = by_turns_ms(partial(gated.run, told), partial(own.run, case), _ROUNDS)
        found.append(ratio(pairs))
    name, count = network.name, f"{len(units)} gates"
    more = entries["gated"].own_bytes / entries["full"].weights_bytes
    return [
        Bar(name, f"{count}, everything runs, over the full engine", found[0], 1.05),
        Bar(name, "… nothing runs, over an engine without these units", found[1], None),
        Bar(name, "… packed weights of their own, over the full engine's", more, 0.02),
    ]


def _build(network: Network, folder: Path, path: Path) -> None:
    """Builds the network in full, without the units of its gates, and with gates."""
    prepare(network, folder)
    checkpoint = folder / "gated.pt"
    shutil.copyfile(folder / "ckpt.pt", checkpoint)
    images = (TensorSpec("pixel_values", "float32", (1, 3, 224, 224)),)
    options = ModelOptions(model=f"transformers:{network.factory}", inputs=images)
    places, _ = places_before(open_family(read_checkpoint(checkpoint, options)).network)
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.normal(size=shape).astype(np.float32)

    gates = tuple(
        Gate(name, normal(_HIDDEN, place.channels), normal(_HIDDEN), 0.0, 0.5)
        for name, place in places.items()
    )
    cell = normal(_HIDDEN, _HIDDEN), normal(_HIDDEN)
    write_gates(checkpoint, Gates(gates, *cell, accuracy=0.0))
    entries = (
        FrontEntry("full"),
        FrontEntry("none", {"skip": list(places)}),
        FrontEntry("gated", {"gates": {}}),
    )
    write_front(folder / "gated.json", Front(entries))
    skipc(
        *("build", checkpoint, "--front", folder / "gated.json", "--target", "cpu"),
        *("--model", f"transformers:{network.factory}", "--input", "1x3x224x224"),
        *("--out", path),
    )
