"""What is left out of a network, as a place in its graph."""

from __future__ import annotations

from typing import NamedTuple


class Cut(NamedTuple):
    """An operand that counts as zero.

    Attributes:
        node: The node, by the name of its first output.
        operand: Which of its operands.
    """

    node: str
    operand: int
