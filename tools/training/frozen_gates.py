"""Gates for a network that is trained: its own weights stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from skipc.compiler.axes.gate_channels import BranchChannels, most_parts
from skipc.compiler.axes.gates import places_before
from skipc.compiler.axes.units import units_of_network
from skipc.compiler.errors import GatesError
from skipc.compiler.family import open_family
from skipc.compiler.gates import write_gates
from skipc.compiler.residual_scale import Scaling
from skipc.compiler.select.batched import evaluated_family
from skipc.compiler.select.data import class_labels, read_data
from skipc.compiler.select.data.sketch import sketch_of
from skipc.compiler.verify.torch_reference import TorchReference
from skipc.runtime.errors import choices_text
from skipc.tools.training.gated_networks import GatedProgram
from skipc.tools.training.gates import (
    Evaluated,
    evaluated,
    fixed_share,
    gated_loss,
    set_bias,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.axes.gates import PlaceBefore
    from skipc.compiler.network import Network
    from skipc.compiler.read import Supernet
    from skipc.compiler.select.data import DataOptions
    from skipc.compiler.select.samples import Samples
    from skipc.tools.console import Steps

_ROWS = 64
_RATE = 1e-2
_OPENING_SHARE = 0.2
"""Of the steps are towards full execution."""


@dataclass(frozen=True, slots=True)
class GateOptions:
    """How gates are trained.

    Attributes:
        target: The part of the network's operations that is to run, on the average.
        epochs: Passes over the data.
        at: The units that get gates; empty for all that may have one.
        channels: In how many parts of its channels a branch runs at most.
        seed: Of weights, order and noise.
    """

    target: float
    epochs: int
    at: tuple[str, ...] = ()
    channels: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainedGates:
    """What came out, on the report part.

    Attributes:
        path: The file.
        units: What the gates decide about: units, and parts of their channels.
        full: With everything running.
        gated: With the gates left to themselves.
        caps: By the largest number of these units that run.
        refused: By unit, why it has no gate.
        whole: By unit that has one, why it does not tell channels apart.
        samples: How many samples the gates were trained on.
    """

    path: Path
    units: tuple[str, ...]
    full: Evaluated
    gated: Evaluated
    caps: Mapping[int, Evaluated]
    refused: Mapping[str, str]
    whole: Mapping[str, str]
    samples: int


def train_gates(
    supernet: Supernet, checkpoint: Path, data: DataOptions, options: GateOptions, step: Steps
) -> TrainedGates:
    """Trains gates on a frozen network, and writes them beside its checkpoint.

    Args:
        supernet: The network.
        checkpoint: Its file.
        data: The labelled data: trained on is the first part, how much runs is set on the
            second, what is reached is of the third.
        options: How.
        step: Told what is being done.

    Raises:
        GatesError: The network has no unit for a gate, or none of a given name, is no
            program of PyTorch, or the target cannot be reached.
        SelectError: The data does not fit.
    """
    step("reading the data")
    parts = read_data(data, supernet.inputs, step.note, supernet.dimensions).parts
    step("exporting the network")
    family = open_family(supernet)
    network = evaluated_family(supernet, family, _ROWS, Scaling(), step.note).network
    places, refused = places_before(network)
    places = _asked(places, options.at)
    torch.manual_seed(options.seed)
    model, whole = _model(network, places, options.channels)
    if options.target <= fixed_share(model):
        raise GatesError(
            f"--target {options.target:g}: {fixed_share(model):.2f} of the network's"
            " operations always run, whatever gates say. Give a larger target."
        )
    output = family.network.outputs[0]
    rows = _ROWS if network.batch is not None else 1
    train, selection, report = (
        _Batches(samples, class_labels(samples, output, data.text), rows)
        for samples in (parts.reestimate, parts.selection, parts.report)
    )
    step("training")
    _train(model, train, options, step)
    step("setting how much runs")
    set_bias(model, [*selection], options.target)
    held_out = evaluated(model, selection)
    gates = model.cell.trained(held_out.rates, held_out.accuracy)
    step("computing what is reached")
    count = len(model.cell.names)
    caps = sorted({1, count // 4, count // 2} - {0, count})
    return TrainedGates(
        write_gates(checkpoint, gates, sketch_of([parts.reestimate, parts.selection])),
        model.cell.decided,
        evaluated(model, report, bias=1e6),
        evaluated(model, report),
        {cap: evaluated(model, report, cap=cap) for cap in caps},
        refused,
        whole,
        len(parts.reestimate),
    )


class _Batches:
    """Samples in batches, in order."""

    def __init__(self, samples: Samples, labels: NDArray[np.int64], rows: int) -> None:
        self._inputs, self._labels, self._rows = samples.inputs, labels, rows

    def __iter__(self) -> Iterator[tuple[Mapping[str, torch.Tensor], torch.Tensor]]:
        return self.shuffled(np.arange(len(self._labels)))

    def __len__(self) -> int:
        return -(-len(self._labels) // self._rows)

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self._labels)

    def shuffled(
        self, order: NDArray[np.intp]
    ) -> Iterator[tuple[Mapping[str, torch.Tensor], torch.Tensor]]:
        """Yields inputs and labels in this order."""
        for start in range(0, len(order), self._rows):
            index = order[start : start + self._rows]
            inputs = {n: torch.from_numpy(a[index]) for n, a in self._inputs.items()}
            yield inputs, torch.from_numpy(self._labels[index])


def _train(model: GatedProgram, data: _Batches, options: GateOptions, step: Steps) -> None:
    """Trains the gates, towards full execution first."""
    rng = np.random.default_rng(options.seed)
    optimizer = torch.optim.AdamW(model.cell.parameters(), lr=_RATE)
    total, done = options.epochs * len(data), 0
    model.cell.train()
    for _ in range(options.epochs):
        for inputs, labels in data.shuffled(rng.permutation(data.samples)):
            done += 1
            step.advance(done, total)
            if len(labels) < 2:
                continue  # a norm over the batch needs two
            begun = max(done / total - _OPENING_SHARE, 0) / (1 - _OPENING_SHARE)
            target = model.cell.anneal(begun, options.target)
            loss = gated_loss(model, model.answer(inputs), labels, target, 0.0)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()


def _model(
    network: Network, places: Mapping[str, PlaceBefore], channels: int
) -> tuple[GatedProgram, Mapping[str, str]]:
    """Returns the network with gates, and why units do not run in parts if any should."""
    if not isinstance(network.reference, TorchReference):
        raise GatesError(
            f"gates are trained through PyTorch's gradients, and {network.description} is no"
            " program of PyTorch. Give the checkpoint that the file was exported from."
        )
    if network.batch is None:
        raise GatesError(
            "gates are trained on batches, but this network takes none. Give it a dynamic"
            " batch: --input NAME=Nx..., --batch."
        )
    units, output = units_of_network(network), network.outputs[0].name
    inner, whole = {}, {}
    branches = BranchChannels(network)
    for unit in units.units if channels > 1 else ():
        if unit.name in places:
            try:
                found = branches.of(unit)
                inner[unit.name] = found, branches.parts(found, channels)
            except GatesError as reason:
                whole[unit.name] = str(reason)
    if whole and not inner:
        raise GatesError(
            f"--channels {channels}: {next(iter(whole.values()))} Leave --channels out: then"
            " gates decide about units alone."
        )
    most = most_parts(found.group.channels for found, _ in inner.values())
    if inner and channels > most:
        raise GatesError(
            f"--channels {channels}: no branch has more than {most} parts of channels in the"
            f" blocks that engines compute in. Give at most {most}."
        )
    return GatedProgram(network.reference, places, inner, units, output), whole


def _asked(places: Mapping[str, PlaceBefore], at: tuple[str, ...]) -> dict[str, PlaceBefore]:
    """Returns the places of the units asked for; all where none are."""
    if not places:
        raise GatesError(
            "there is nothing that gates could decide about: the network has no units, or none"
            " that a gate can stand in front of. `skipc units --all` lists what was found."
        )
    for name in at:
        if name not in places:
            raise GatesError(
                f"--at {name!r}: no gate goes there. {choices_text(name, places)}"
            )
    return {name: place for name, place in places.items() if not at or name in at}
