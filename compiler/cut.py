"""What is left out of a network, as a place in its graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray


class Cut(NamedTuple):
    """An operand that counts as zero.

    Attributes:
        node: The node, by the name of its first output.
        operand: Which of its operands.
    """

    node: str
    operand: int


@dataclass(frozen=True, eq=False, slots=True)
class Narrowed:
    """A tensor of which some channels count as zero.

    Attributes:
        value: Its name.
        axis: The dimension that the channels lie in.
        kept: Which of them stay.
    """

    value: str
    axis: int
    kept: NDArray[np.bool_]

    def beside(self, dimensions: int) -> NDArray[np.bool_]:
        """Returns what stays, of a shape that is broadcast to one of so many dimensions."""
        return self.kept.reshape(-1, *(1,) * (dimensions - 1 - self.axis))


def operands_by_node(cuts: Iterable[Cut]) -> dict[str, set[int]]:
    """Returns which operands are cut, by node."""
    found: dict[str, set[int]] = {}
    for cut in cuts:
        found.setdefault(cut.node, set()).add(cut.operand)
    return found
