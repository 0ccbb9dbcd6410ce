"""Gates: what deciding and switching costs, whatever is decided; bits are checked when built.

The gates have random weights; what they decide is set from outside.
"""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from skipc.compiler.axes.gate_channels import BranchChannels
from skipc.compiler.axes.gates import places_before
from skipc.compiler.axes.units import units_of_network
from skipc.compiler.family import open_family
from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.compiler.gates import Gate, Gates, write_gates
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from skipc.runtime import Bundle
from skipc.runtime.backends import open_backend
from skipc.runtime.bundle.gates import CAP, DECISIONS, EVERYTHING, THRESHOLDS
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.tools.bench.harness import Bar, by_turns_ms, ratio, skipc
from skipc.tools.bench.networks import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.network import Network as OpenNetwork
    from skipc.tools.bench.networks import Network

_ROUNDS = 20
_HIDDEN = 8
_PARTS = 4
_CAPS, _CALLS_EACH = 1000, 100


def bars(network: Network, folder: Path) -> list[Bar]:
    """Returns what an engine with gates takes, over engines that know what runs."""
    found = [_broken_caps(folder)]
    for parts, path in ((1, folder / "gated.skipc"), (_PARTS, folder / "parted.skipc")):
        if not path.exists():
            _build(network, folder, path, parts)
        found += _costs(network.name, path)
    return found


def _costs(name: str, path: Path) -> list[Bar]:
    """Returns what it takes when everything, nothing, and one part of each unit runs."""
    bundle = Bundle.open(path)
    entries = {entry.graph: entry for entry in bundle.engine_set("cpu").engines}
    backend = open_backend(bundle, bundle.engine_set("cpu"), 1)
    case, graph = bundle.golden_inputs()[0], bundle.manifest.graph("gated")
    full, none, gated = (backend.load(name) for name in ("full", "none", "gated"))
    first = [part == 0 for unit in graph.gated_units for part in range(len(unit))]
    whole = len(first) == sum(first)
    found = []
    told = ((full, [True] * len(first)), (none, [False] * len(first)), (full, first))
    for own, runs in told[: 2 if whole else 3]:
        limits = np.where(runs, np.float32(EVERYTHING), np.float32(-EVERYTHING))
        given = {**case, THRESHOLDS: limits}
        assert gated.run(given)[DECISIONS][0].tolist() == runs
        own.run(case)
        pairs = by_turns_ms(partial(gated.run, given), partial(own.run, case), _ROUNDS)
        found.append(ratio(pairs))
    count = f"{sum(first)} gates" + (f", {len(first)} parts" if not whole else "")
    more = entries["gated"].own_bytes / entries["full"].weights_bytes
    macs = {option.name: option.macs for option in bundle.manifest.options("gates")}
    spared = sum(macs[name] for name, one in zip(graph.gates, first, strict=True) if not one)
    note = f"{1 - spared / graph.macs:.2f} of its operations"
    return [
        Bar(name, f"{count}, everything runs, over the full engine", found[0], 1.05),
        Bar(name, "… nothing runs, over an engine without these units", found[1], None),
        *(
            Bar(name, "… one part of each runs, over the full engine", one, None, note=note)
            for one in found[2:]
        ),
        Bar(
            name,
            "… packed weights of their own, over the full engine's",
            more,
            0.02 if whole else None,
        ),
    ]


def _build(network: Network, folder: Path, path: Path, parts: int) -> None:
    """Builds the network in full, without the units of its gates, and with gates."""
    prepare(network, folder)
    checkpoint = folder / f"{path.stem}.pt"
    shutil.copyfile(folder / "ckpt.pt", checkpoint)
    images = (TensorSpec("pixel_values", "float32", (1, 3, 224, 224)),)
    options = ModelOptions(model=f"transformers:{network.factory}", inputs=images)
    opened = open_family(read_checkpoint(checkpoint, options)).network
    gates = _random_gates(opened, parts)
    write_gates(checkpoint, gates)
    entries = (
        FrontEntry("full"),
        FrontEntry("none", {"skip": [gate.name for gate in gates.gates]}),
        FrontEntry("gated", {"gates": {}}),
    )
    write_front(folder / "gated.json", Front(entries))
    skipc(
        *("build", checkpoint, "--front", folder / "gated.json", "--target", "cpu"),
        *("--model", f"transformers:{network.factory}", "--input", "1x3x224x224"),
        *("--out", path),
    )


def _random_gates(network: OpenNetwork, parts: int) -> Gates:
    """Returns a gate for each unit, about parts of its channels if ``parts`` is above 1."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.normal(size=shape).astype(np.float32)

    known = {unit.name: unit for unit in units_of_network(network).units}
    branches, gates = BranchChannels(network), list[Gate]()
    for name, place in places_before(network)[0].items():
        own = np.zeros(0, np.int64)
        if parts > 1:
            own = branches.parts(branches.of(known[name]), parts)
        count = int(own.max(initial=0)) + 1
        weights = normal(_HIDDEN, place.channels), normal(_HIDDEN)
        gates.append(
            Gate(name, *weights, tuple(map(float, range(count))), (0.5,) * count, own)
        )
    return Gates(tuple(gates), normal(_HIDDEN, _HIDDEN), normal(_HIDDEN), accuracy=0.0)


def _broken_caps(folder: Path) -> Bar:
    """Returns in how many calls of a small network more units ran than a random cap lets."""
    checkpoint, recipe = folder / "capped.pt", find_recipe("resnet")
    arguments = {"widths": [8, 8, 16], "depths": [2, 2, 2]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = recipe.load()(**arguments).state_dict()
    file = CheckpointFile("skipc:resnet", arguments, state, recipe.inputs)
    save_checkpoint(checkpoint, file)
    opened = open_family(read_checkpoint(checkpoint, ModelOptions())).network
    write_gates(checkpoint, _random_gates(opened, _PARTS))
    write_front(folder / "capped.json", Front((FrontEntry("gated", {"gates": {}}),)))
    path = folder / "capped.skipc"
    words = ("--front", folder / "capped.json", "--target", "cpu", "--overwrite")
    skipc("build", checkpoint, *words, "--out", path)
    bundle = Bundle.open(path)
    graph, case = bundle.manifest.graph("gated"), bundle.golden_inputs()[0]
    engine = open_backend(bundle, bundle.engine_set("cpu"), 1).load("gated")
    sizes = [len(unit) for unit in graph.gated_units]
    units = np.cumsum([0, *sizes[:-1]])
    (name, image), *_ = case.items()
    rng, broken = np.random.default_rng(0), 0
    for _ in range(_CAPS):
        cap = rng.integers(0, len(units) + 1, 1)
        limits = [np.sort(rng.normal(0, 2, size)) for size in sizes]
        numbers = np.concatenate(limits).astype(np.float32)
        told: dict[str, NDArray[Any]] = {CAP: cap, THRESHOLDS: numbers}
        for _ in range(_CALLS_EACH):
            given = rng.normal(rng.normal(), 1, image.shape).astype(np.float32)
            ran = engine.run({**case, name: given, **told})[DECISIONS]
            broken += int((ran[:, units].sum(1) > cap).sum())
    calls = f"{_CAPS * _CALLS_EACH:,} calls, {_CAPS:,} random caps and thresholds"
    return Bar("small ResNet", f"gates: {calls}, caps broken", broken, 0, "calls")
