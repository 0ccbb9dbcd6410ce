"""A network: a graph, and the same computation by other means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skipc.runtime.bundle.tensors import batch_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.calibration import Calibration
    from skipc.compiler.cut import Cut, Narrowed
    from skipc.compiler.gates import Gates
    from skipc.compiler.gating import Gating
    from skipc.compiler.heads import Head
    from skipc.compiler.norms.statistics import NetworkNorms
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.tensors import Dimension, TensorSpec


@dataclass(frozen=True, slots=True)
class Exit:
    """A place before its end where a network answers: a head on a tensor of its graph.

    Attributes:
        name: The head's: the unit that it comes after; of an exit of the network's own, the
            output's.
        at: The tensor's name. Its first dimension is the batch.
        head: What makes the answer of the tensor; None where it is the answer.
        output: The answer's name in the graph.
        dtype: The answer's type, NumPy's name: that of the network's output.
    """

    name: str
    at: str
    head: LinearHead | None
    output: str
    dtype: str

    def answer(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Returns the answer, (N, classes), for the tensor."""
        found = tensor if self.head is None else self.head.scores(tensor)
        return found.astype(self.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class LinearHead:
    """A linear layer on the mean over all positions of a tensor.

    Attributes:
        axis: The tensor's dimension that the channels lie in; over the others is averaged.
        weight: (classes, channels), float32.
        bias: (classes,), float32.
    """

    axis: int
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def scores(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Returns (N, classes)."""
        positions = tuple(a for a in range(1, tensor.ndim) if a != self.axis)
        mean = tensor.astype(np.float64).mean(positions) if positions else tensor
        scores: NDArray[Any] = mean @ self.weight.T + self.bias
        return scores


@dataclass(frozen=True, slots=True)
class Feed:
    """Where an input of a network comes from, where its family takes another one.

    Attributes:
        name: The input's.
        source: The family's input.
        size: The height and width that it is resized to, its last two dimensions; None where
            it has them.
    """

    name: str
    source: str
    size: tuple[int, int] | None

    def read(self, inputs: Case) -> NDArray[Any]:
        """Returns the input, of the family's."""
        array = inputs[self.source]
        if self.size is not None:
            for axis, size in zip((-2, -1), self.size, strict=True):
                array = _resized(array, axis, size)
        return array.astype(inputs[self.source].dtype)


def _resized(array: NDArray[Any], axis: int, size: int) -> NDArray[Any]:
    """Returns an array with a dimension resized, bilinear and antialiased.

    Each number is a mean of those around its place, weighted by a triangle, as PyTorch's
    ``interpolate`` has it.
    """
    moved = np.moveaxis(array.astype(np.float64), axis, -1)
    step = moved.shape[-1] / size
    reach = max(step, 1.0)
    means = []
    for number in range(size):
        centre = (number + 0.5) * step
        first = max(0, int(centre - reach + 0.5))
        last = min(moved.shape[-1], int(centre + reach + 0.5))
        apart = np.abs(np.arange(first, last) + 0.5 - centre) / reach
        means.append(np.average(moved[..., first:last], -1, np.maximum(0, 1 - apart)))
    return np.moveaxis(np.stack(means, -1), -1, axis)


@dataclass(frozen=True)
class Reference(ABC):
    """Runs a network by other means than its graph, which it never reads.

    What is done to the network is done to the reference in its own way: each of the ``with_``
    methods returns another reference, with that added to what was done before.

    Attributes:
        name: What it is, for the manifest and for messages.
        cuts: Operands that are zero.
        scales: What operands are multiplied by.
        narrowed: Tensors of which some channels are zero.
        norms: The batch norms' statistics, where they are not the network's own.
        exits: Where it answers before its end.
        ends: Whether it answers at its end.
        feeds: Where its inputs come from, where not by their names.
        gating: The gates that decide about its units; None without.
    """

    name: ClassVar[str]
    cuts: tuple[Cut, ...] = field(default=(), kw_only=True)
    scales: Mapping[Cut, float] = field(default_factory=dict, kw_only=True)
    narrowed: tuple[Narrowed, ...] = field(default=(), kw_only=True)
    norms: NetworkNorms = field(default_factory=dict, kw_only=True)
    exits: tuple[Exit, ...] = field(default=(), kw_only=True)
    ends: bool = field(default=True, kw_only=True)
    feeds: tuple[Feed, ...] = field(default=(), kw_only=True)
    gating: Gating | None = field(default=None, kw_only=True)

    @abstractmethod
    def run(self, cases: Sequence[Case]) -> list[Case]:
        """Returns the outputs by name for each case, those of ``Deciding`` among them."""

    @abstractmethod
    def trace(self, inputs: Case) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields every intermediate tensor by its name in the graph, in order."""

    def can_cut(self, cut: Cut) -> bool:
        """Tells whether the operand has a counterpart here."""
        return True

    def can_narrow(self, value: str) -> bool:
        """Tells whether a tensor of the graph has a counterpart here."""
        return True

    def with_cuts(self, cuts: Sequence[Cut]) -> Reference:
        """Returns the reference with these operands zero."""
        return replace(self, cuts=(*self.cuts, *cuts))

    def with_scales(self, scales: Mapping[Cut, float]) -> Reference:
        """Returns the reference with these operands multiplied by a factor each."""
        return replace(self, scales={**self.scales, **scales})

    def with_narrowed(self, narrowed: Sequence[Narrowed]) -> Reference:
        """Returns the reference with some channels of these tensors zero."""
        return replace(self, narrowed=(*self.narrowed, *narrowed))

    def with_norms(self, norms: NetworkNorms) -> Reference:
        """Returns the reference with these statistics, by output, in its batch norms."""
        return replace(self, norms=norms)

    def with_exits(self, exits: Sequence[Exit], ends: bool) -> Reference:
        """Returns the reference that answers there, and at its end if it ``ends``."""
        return replace(self, exits=tuple(exits), ends=ends)

    def with_gating(self, gating: Gating) -> Reference:
        """Returns the reference in which gates decide about units."""
        return replace(self, gating=gating)

    def with_feeds(self, feeds: Sequence[Feed]) -> Reference:
        """Returns the reference of a network of a family that takes other inputs."""
        return replace(self, feeds=tuple(feeds))

    def fed(self, inputs: Case) -> Case:
        """Returns the network's own inputs, of the family's."""
        return {**inputs, **{feed.name: feed.read(inputs) for feed in self.feeds}}


@dataclass(frozen=True, slots=True)
class Switching:
    """How a network leaves out parts of itself, and changes more than that when it does.

    No graph of the full network holds what it becomes: it is asked for each of its forms.

    Attributes:
        names: What may be left out, in network order.
        without: Returns the network without some of these.
    """

    names: tuple[str, ...]
    without: Callable[[frozenset[str]], Network]


Size = tuple[int, int]
"""Height and width of images."""

DEFAULT_TOLERANCE = 1e-4
"""Largest error that subnets may have, as a fraction of the output's range."""


class Arithmetic(Enum):
    """How a graph is run to be compared."""

    AS_WRITTEN = "as written"
    ROUNDED = "rounded"
    """In float32, rounded wherever a device that computes in half precision rounds."""
    SIMULATED = "simulated"
    """Node by node: what is quantised is computed in float32, of what the integers mean."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a graph may be from its reference.

    Attributes:
        relative: Largest error, as a fraction of the output's range.
        runs: How the graph is run to tell; the larger error counts.
        advice: What to do where it is further away, a sentence or "".
        least_range: The smallest range that an error may be a fraction of, over the largest
            number that goes into an output's last operation. Times ``relative`` it is what
            rounding explains: the default 16 float32 epsilons, the root of a sum of a
            thousand terms (every one is rounded by half an epsilon, and errors add up like a
            random walk); 2 epsilons of a half precision, which rounds what goes into an
            operation and what comes out, and sums in float32.
    """

    relative: float
    runs: tuple[Arithmetic, ...] = (Arithmetic.AS_WRITTEN,)
    advice: str = ""
    least_range: float = 0.02


_HALF_TOLERANCE = Tolerance(1e-2, least_range=0.2)


def own_tolerance(outputs: tuple[TensorSpec, ...]) -> Tolerance:
    """Returns the tolerance of a network whose outputs have these types."""
    half = any(spec.dtype == "float16" for spec in outputs)
    return _HALF_TOLERANCE if half else Tolerance(DEFAULT_TOLERANCE)


@dataclass(frozen=True, slots=True)
class Network:
    """A graph that can be changed, together with what it is compared against.

    Attributes:
        model: The graph. It is never changed: an axis clones it, and two networks made from
            one share their tensors by identity, which is what stores them once.
        reference: The same computation by other means.
        inputs: The network's inputs.
        outputs: The network's outputs.
        dimensions: The free dimensions that shapes name.
        description: The network in one line, for the manifest.
        tolerance: How far the graph may be from the reference.
        survival: Survival probability by the path of the stochastic-depth module.
        residual_scale: How the checkpoint says that kept branches are scaled at test time.
        switching: Where it leaves out parts of itself by its own means.
        name: Of the checkpoint; "" where there is one.
        heads: What was trained to answer before the end.
        exits: Where it answers before its end, in network order.
        ends: Whether it answers at its end.
        branches: The graph with the exits of its own, which are outputs before the end; None
            where it has none.
        channels: By a batch norm's output, which of the full network's channels it still has;
            a norm that is missing has all.
        gates: What was trained to decide about its units; None without.
        gating: The gates that do decide, in their places; None where none do.
        calibration: What ranges are observed on; None where nothing is known of int8.
        floating: The layers that int8 leaves in float32, or modules that hold several.
        exact: The same network before its numbers were made coarser than its tolerance tells
            faults from: it is verified, too. None where that was not done.
        at: Returns the same network, which resizes its images first; None where that is not
            known. It raises ``SupernetError`` for a size that the network cannot take.
        hands_on: What it gives besides for the networks that follow it in a route: the first
            outputs of its graph.
    """

    model: ir.Model
    reference: Reference
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dimensions: tuple[Dimension, ...]
    description: str
    tolerance: Tolerance
    survival: Mapping[str, float] = field(default_factory=dict)
    residual_scale: str = "inverted"
    switching: Switching | None = None
    name: str = ""
    heads: tuple[Head, ...] = ()
    exits: tuple[Exit, ...] = ()
    ends: bool = True
    branches: ir.Model | None = None
    channels: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    gates: Gates | None = None
    gating: Gating | None = None
    calibration: Calibration | None = None
    floating: tuple[str, ...] = ()
    exact: Network | None = None
    at: Callable[[Size], Network] | None = None
    hands_on: tuple[TensorSpec, ...] = ()

    @property
    def batch(self) -> Dimension | None:
        """The batch; None where that is fixed."""
        return batch_in(self.dimensions)

    @property
    def exit_outputs(self) -> tuple[str, ...]:
        """The outputs that are exits of its own, in network order."""
        if self.branches is None:
            return ()
        return tuple(str(value.name) for value in self.branches.graph.outputs)[:-1]

    @property
    def answers(self) -> tuple[Mapping[str, str], ...]:
        """Its answers in network order, each by the outputs' names those of the graph."""
        early = [{spec.name: e.output for spec in self.outputs} for e in self.exits]
        end = [{spec.name: spec.name for spec in self.outputs}] if self.ends else []
        return (*early, *end)

    def tolerating(self, relative: float | None) -> Network:
        """Returns the network with another tolerance; None for its own."""
        if relative is None:
            return self
        return replace(self, tolerance=replace(self.tolerance, relative=relative))
