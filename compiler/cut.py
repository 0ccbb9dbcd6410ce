"""What is left out of a network, as a place in its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Cut(NamedTuple):
    """An operand that counts as zero.

    Attributes:
        node: The node, by the name of its first output.
        operand: Which of its operands.
    """

    node: str
    operand: int


def operands_by_node(cuts: Iterable[Cut]) -> dict[str, set[int]]:
    """Returns which operands are cut, by node."""
    found: dict[str, set[int]] = {}
    for cut in cuts:
        found.setdefault(cut.node, set()).add(cut.operand)
    return found
