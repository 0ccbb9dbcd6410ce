"""Gates while they are trained: hard decisions, with the gradients of soft ones.

The parts are known ones: a recurrent cell that the gates share (SkipNet, Wang et al. 2018),
decisions with logistic noise and straight-through gradients (Jang et al. 2017), and a price of
compute that is moved until so much runs as is to. A penalty of one strength whose sign flips
at the target drowns what answers say: which units it closes is then left to chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from skipc.compiler.gates import Gate, Gates, part_names
from skipc.compiler.gating import mask_shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

HIDDEN = 8
"""Numbers that the cell hands from gate to gate."""
_APART = 0.25
"""How far the thresholds of a unit's parts lie apart at first."""
_OPEN = 2.0
"""Where scores begin: a unit runs for seven of eight rows, in spite of the noise."""
_PRICE_STEP = 0.3
_PRICE_GAIN = 10.0
"""How the price of all of a network's operations, in units of the cross-entropy, follows what
runs beyond the target: a controller's integral and proportional part."""
NEARLY_ALL = 0.95
"""What runs at first; at all of it scores would grow for ever, and hardly come back."""
_NOISY_SHARE = 0.5
_BISECTIONS = 12
_WIDEST_BIAS = 16.0


class Cell(nn.Module):
    """The gates of a network, which share a recurrent cell; see ``compiler.gates.Gates``.

    Args:
        channels: By unit, in network order, the channels of the stream in front of it.
        parts: By unit that runs in parts, for each channel within its branch the number of
            its part.
    """

    def __init__(
        self, channels: Mapping[str, int], parts: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        super().__init__()
        self.names = tuple(channels)
        given, counts = {} if parts is None else parts, []
        for number, name in enumerate(channels):
            own = given.get(name, torch.zeros(0, dtype=torch.long))
            self.register_buffer(f"parts{number}", own)
            counts.append(int(own.max()) + 1 if len(own) else 1)
        self.counts = tuple(counts)
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(count, affine=False) for count in channels.values()
        )
        self.inputs = nn.ModuleList(nn.Linear(count, HIDDEN) for count in channels.values())
        self.recurrent = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.score = nn.Linear(HIDDEN, 1, bias=False)
        self.offsets = nn.Parameter(torch.full((len(channels),), _OPEN))
        # What softplus makes of it is how much further each part's score must be.
        apart = math.log(math.expm1(_APART))
        self.steps = nn.Parameter(torch.full((len(channels), max(self.counts) - 1), apart))
        self.bias, self.cap = 0.0, len(channels)
        self.price = 0.0
        """Of compute while training; below 0 where too little runs."""
        self.noise = 1.0
        """Of decisions while training; the last ones are made without, as later on."""

    @property
    def decided(self) -> tuple[str, ...]:
        """What is decided about: units, each with its parts from the second on behind it."""
        counts = zip(self.names, self.counts, strict=True)
        return tuple(each for name, count in counts for each in part_names(name, count))

    def parts_of(self, number: int) -> torch.Tensor:
        """Returns for each channel within a unit's branch the number of its part."""
        return self.get_buffer(f"parts{number}")

    def offsets_of(self, number: int) -> torch.Tensor:
        """Returns what is added to a unit's score for each of its parts, falling."""
        steps = functional.softplus(self.steps[number, : self.counts[number] - 1])
        return self.offsets[number] - torch.cat((steps.new_zeros(1), steps.cumsum(0)))

    def anneal(self, done: float, target: float) -> float:
        """Sets the noise, which ends half-way, and returns what is to run by now.

        Args:
            done: The share of the training that was done, after the gates have opened.
            target: What is to run in the end.
        """
        left = max(0.0, 1 - done / _NOISY_SHARE)
        self.noise = left
        return target + left * max(NEARLY_ALL - target, 0.0)

    def trained(self, rates: Sequence[float], accuracy: float) -> Gates:
        """Returns the gates, the norms in their weights.

        Args:
            rates: By unit and part, how often it ran for held-out samples.
            accuracy: What these were answered with.
        """
        gates, left = [], iter(rates)
        for number, name in enumerate(self.names):
            norm, layer = self.norms[number], self.inputs[number]
            assert isinstance(norm, nn.BatchNorm1d)
            assert isinstance(layer, nn.Linear)
            scale = 1 / np.sqrt(_array(norm.running_var) + norm.eps)
            weight = _array(layer.weight) * scale
            bias = _array(layer.bias) - weight @ _array(norm.running_mean)
            thresholds = tuple((-_array(self.offsets_of(number)) - self.bias).tolist())
            floats = weight.astype(np.float32), bias.astype(np.float32)
            own = tuple(map(float, islice(left, len(thresholds))))
            gates.append(
                Gate(name, *floats, thresholds, own, self.parts_of(number).cpu().numpy())
            )
        recurrent, score = _array(self.recurrent.weight), _array(self.score.weight)[0]
        cell = recurrent.astype(np.float32), score.astype(np.float32)
        return Gates(tuple(gates), *cell, accuracy)


class Decisions:
    """What a cell decides in one pass of a batch, unit by unit."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._hidden: torch.Tensor | None = None
        self.runs: list[torch.Tensor] = []
        """By unit: for each row and part 1 where it runs, else 0, with the gradient of a
        sigmoid."""

    def decide(self, mean: torch.Tensor) -> None:
        """Decides about the next unit, by the means (N, channels) in front of it."""
        cell, number = self._cell, len(self.runs)
        hidden = cell.inputs[number](cell.norms[number](mean))
        if self._hidden is not None:
            hidden = hidden + cell.recurrent(self._hidden)
        self._hidden = torch.tanh(hidden)
        score: torch.Tensor = cell.score(self._hidden) + cell.offsets_of(number)
        if cell.training:
            # The same noise for all parts of a unit: what runs are always the first ones.
            uniform = torch.rand_like(score[:, :1]).clamp(1e-6, 1 - 1e-6)
            score = score + cell.noise * torch.logit(uniform)
            soft = torch.sigmoid(score)
            runs = (score > 0).to(score.dtype) + soft - soft.detach()
        else:
            before = sum((own[:, :1] for own in self.runs), torch.zeros_like(score[:, :1]))
            runs = ((score + cell.bias > 0) & (before < cell.cap)).to(score.dtype)
        self.runs.append(runs)

    def unit(self, number: int, branch: torch.Tensor) -> torch.Tensor:
        """Returns a unit's branch with zeros in the rows for which it does not run."""
        return branch * self.runs[number][:, 0].reshape(-1, *[1] * (branch.ndim - 1))

    def within(self, number: int, inner: torch.Tensor, axis: int = 1) -> torch.Tensor:
        """Returns the channels within a branch with zeros where their part does not run."""
        own = self.runs[number]
        stays = own[:, self._cell.parts_of(number)]
        return inner * stays.reshape(mask_shape(stays.shape, inner.ndim, axis))


class GatedModel(Protocol):
    """A network whose units run as a cell decides, all computed."""

    cell: Cell
    shares: torch.Tensor
    """By unit and part, its share of the network's operations."""

    def answer(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns scores by class, (N, classes), and what ran, (N, units and parts)."""
        ...


def fixed_share(model: GatedModel) -> float:
    """Returns the part of a network's operations that no gate decides about."""
    return 1 - float(model.shares.sum())


def compute_of(model: GatedModel, runs: torch.Tensor) -> torch.Tensor:
    """Returns the part of the network's operations that runs, mean over the rows."""
    return fixed_share(model) + (runs * model.shares).sum(1).mean()


def gated_loss(
    model: GatedModel,
    answered: tuple[torch.Tensor, torch.Tensor],
    labels: torch.Tensor,
    target: float,
    smoothing: float,
) -> torch.Tensor:
    """Returns the cross-entropy and what compute costs, or pays where too little runs.

    Moves the price for the next step.
    """
    scores, runs = answered
    compute = compute_of(model, runs)
    beyond = float(compute.detach()) - target
    model.cell.price += _PRICE_STEP * beyond
    entropy = functional.cross_entropy(scores, labels, label_smoothing=smoothing)
    return entropy + (model.cell.price + _PRICE_GAIN * beyond) * compute


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a gated network reaches.

    Attributes:
        accuracy: A fraction.
        compute: The part of its operations that ran, on the average.
        rates: By unit and part, how often it ran.
    """

    accuracy: float
    compute: float
    rates: tuple[float, ...]


def evaluated(
    model: GatedModel,
    batches: Iterable[tuple[Mapping[str, torch.Tensor], torch.Tensor]],
    bias: float | None = None,
    cap: int | None = None,
) -> Evaluated:
    """Returns what a network reaches without noise, on inputs and labels.

    Args:
        model: The network.
        batches: The inputs and labels.
        bias: Added to every score, instead of what was found.
        cap: How many of its units run at most.
    """
    cell = model.cell.eval()
    before = cell.bias, cell.cap
    cell.bias = cell.bias if bias is None else bias
    cell.cap = len(cell.names) if cap is None else cap
    right, ran, count = 0, torch.zeros(len(cell.decided)), 0
    try:
        with torch.no_grad():
            for inputs, labels in batches:
                scores, runs = model.answer(inputs)
                right += int((scores.argmax(1) == labels).sum())
                ran += runs.sum(0).cpu()
                count += len(labels)
    finally:
        cell.bias, cell.cap = before
    rates = ran / count
    compute = fixed_share(model) + float((rates * model.shares.cpu()).sum())
    return Evaluated(right / count, compute, tuple(rates.tolist()))


def set_bias(
    model: GatedModel,
    batches: Sequence[tuple[Mapping[str, torch.Tensor], torch.Tensor]],
    target: float,
) -> None:
    """Adds to all scores what makes so much run as is wanted: training ends about there."""
    low, high = -_WIDEST_BIAS, _WIDEST_BIAS
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if evaluated(model, batches, bias=middle).compute > target:
            high = middle
        else:
            low = middle
    model.cell.bias = low


def _array(tensor: torch.Tensor | None) -> NDArray[np.float64]:
    assert tensor is not None
    found: NDArray[np.float64] = tensor.detach().cpu().double().numpy()
    return found
