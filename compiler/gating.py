"""Gates in their places in a network, and what they decide, in NumPy.

This is the reference's side of it: the graph's is ``graph/passes/gate_units.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.compiler.cut import Cut
    from skipc.compiler.gates import Gate
    from skipc.compiler.verify.numerics import Case

MARGINS = "skipc.margins"
"""What a reference adds to its outputs: by row and unit, the score less its threshold."""


@dataclass(frozen=True, slots=True)
class PlacedGate:
    """A gate in its place.

    Attributes:
        gate: The gate.
        cut: The operand that is zero where its unit does not run.
        at: The tensor that it reads, by name. Its first dimension is the batch.
        axis: That tensor's dimension that the channels lie in.
    """

    gate: Gate
    cut: Cut
    at: str
    axis: int

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
        thresholds: One for each gate: its unit runs where its score is above.
        cap: How many of the units run at most, the first ones.
    """

    gates: tuple[PlacedGate, ...]
    recurrent: NDArray[np.float32]
    score: NDArray[np.float32]
    thresholds: tuple[float, ...]
    cap: int

    @property
    def units(self) -> tuple[str, ...]:
        """The units that are decided about."""
        return tuple(placed.gate.name for placed in self.gates)


class Deciding:
    """What the gates decide for one batch, as its tensors come, in network order."""

    def __init__(self, gating: Gating) -> None:
        self._gating = gating
        self._waiting = list(enumerate(gating.gates))
        self._hidden: NDArray[np.float64] | None = None
        self._count: NDArray[np.int64] | None = None
        self._margins: list[NDArray[np.float64]] = []
        self.runs: dict[Cut, NDArray[np.bool_]] = {}
        """By the operand that is zero where not: for each row, whether the unit runs."""

    def see(self, name: str, tensor: NDArray[Any]) -> None:
        """Lets the gates that read a tensor, and are next, decide."""
        while self._waiting and self._waiting[0][1].at == name:
            number, placed = self._waiting.pop(0)
            self._decide(placed, self._gating.thresholds[number], placed.mean(tensor))

    def _decide(self, placed: PlacedGate, threshold: float, mean: NDArray[np.float64]) -> None:
        gating = self._gating
        hidden = mean @ placed.gate.weight.T + placed.gate.bias
        if self._hidden is not None:
            hidden += self._hidden @ gating.recurrent.T
        self._hidden = np.tanh(hidden)
        margin = self._hidden @ gating.score - np.float32(threshold)
        count = np.zeros(len(mean), np.int64) if self._count is None else self._count
        runs = (margin > 0) & (count < gating.cap)
        self._count = count + runs
        self._margins.append(margin)
        self.runs[placed.cut] = runs

    def outputs(self, decisions: str) -> Case:
        """Returns the decisions, (N, units), under that name, and their margins."""
        return {
            decisions: np.stack([*self.runs.values()], 1),
            MARGINS: np.stack(self._margins, 1),
        }
