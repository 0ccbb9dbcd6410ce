"""Gates in their places in a network, and what they decide, in NumPy.

This is the reference's side of it: the graph's is ``graph/passes/gate_units.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skipc.compiler.cut import Cut
    from skipc.compiler.gates import Gate
    from skipc.compiler.verify.numerics import Case

MARGINS = "skipc.margins"
"""What a reference adds to its outputs: by row and decision, the score less its threshold."""


class Inner(NamedTuple):
    """The channels within a branch whose parts a gate decides about.

    Attributes:
        value: The tensor that the branch's last layer reads, by name.
        axis: Its dimension that they lie in.
    """

    value: str
    axis: int


@dataclass(frozen=True, slots=True)
class PlacedGate:
    """A gate in its place.

    Attributes:
        gate: The gate.
        cut: The operand that is zero where its unit does not run.
        at: The tensor that it reads, by name. Its first dimension is the batch.
        axis: That tensor's dimension that the channels lie in.
        inner: The channels that are zero where their part does not run; None where it does
            not tell parts apart.
    """

    gate: Gate
    cut: Cut
    at: str
    axis: int
    inner: Inner | None = None

    def mean(self, tensor: NDArray[Any]) -> NDArray[np.float64]:
        """Returns what the gate sees of a tensor, (N, channels)."""
        positions = tuple(a for a in range(1, tensor.ndim) if a != self.axis)
        wide = tensor.astype(np.float64)
        return wide.mean(positions) if positions else wide


@dataclass(frozen=True, eq=False, slots=True)
class Gating:
    """The gates of a network in their places.

    Attributes:
        gates: In network order.
        recurrent: The cell's, (hidden, hidden).
        score: The cell's, (hidden,).
        thresholds: For each gate those of its parts, which run where its score is above.
        cap: How many of the units run at most, the first ones, however much of each.
    """

    gates: tuple[PlacedGate, ...]
    recurrent: NDArray[np.float32]
    score: NDArray[np.float32]
    thresholds: tuple[tuple[float, ...], ...]
    cap: int

    @property
    def decided(self) -> tuple[str, ...]:
        """What is decided about: units, each with its parts from the second on behind it."""
        return tuple(name for placed in self.gates for name in placed.gate.decided)

    @property
    def parts(self) -> tuple[int, ...]:
        """By unit, how many of these are its own."""
        return tuple(map(len, self.thresholds))


class Deciding:
    """What the gates decide for one batch, as its tensors come, in network order."""

    def __init__(self, gating: Gating) -> None:
        self._gating = gating
        self._waiting = list(enumerate(gating.gates))
        self._hidden: NDArray[np.float64] | None = None
        self._count: NDArray[np.int64] | None = None
        self._margins: list[NDArray[np.float64]] = []
        self._decisions: list[NDArray[np.bool_]] = []
        self.runs: dict[Cut, NDArray[np.bool_]] = {}
        """By the operand that is zero where not: for each row, whether the unit runs."""
        self.stays: dict[str, NDArray[np.bool_]] = {}
        """By the tensor that is zero where not: for each row and channel within a branch,
        whether it does."""

    def see(self, name: str, tensor: NDArray[Any]) -> None:
        """Lets the gates that read a tensor, and are next, decide."""
        while self._waiting and self._waiting[0][1].at == name:
            number, placed = self._waiting.pop(0)
            self._decide(placed, self._gating.thresholds[number], placed.mean(tensor))

    def _decide(
        self, placed: PlacedGate, thresholds: tuple[float, ...], mean: NDArray[np.float64]
    ) -> None:
        gating = self._gating
        hidden = mean @ placed.gate.weight.T + placed.gate.bias
        if self._hidden is not None:
            hidden += self._hidden @ gating.recurrent.T
        self._hidden = np.tanh(hidden)
        score = (self._hidden @ gating.score)[:, None]
        margin = score - np.array(thresholds, np.float32)
        count = np.zeros(len(mean), np.int64) if self._count is None else self._count
        decided = (margin > 0) & (count < gating.cap)[:, None]
        self._margins.append(margin)
        self._decisions.append(decided)
        self.runs[placed.cut] = runs = decided[:, 0]
        self._count = count + runs
        if placed.inner is not None:
            self.stays[placed.inner.value] = decided[:, placed.gate.parts]

    def outputs(self, decisions: str) -> Case:
        """Returns the decisions, (N, decided), under that name, and their margins."""
        return {
            decisions: np.concatenate(self._decisions, 1),
            MARGINS: np.concatenate(self._margins, 1),
        }


def mask_shape(sizes: Sequence[int], dimensions: int, axis: int) -> tuple[int, ...]:
    """Returns the shape in which rows, or rows and channels, lie along those of a tensor.

    Args:
        sizes: (N,) or (N, channels).
        dimensions: How many the tensor has.
        axis: Its dimension that the channels lie in.
    """
    found = [sizes[0], *[1] * (dimensions - 1)]
    if len(sizes) > 1:
        found[axis] = sizes[1]
    return tuple(found)
