"""Greedy selection: skip the unit that is missed least, and ask anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.select.searches.beam import check_evaluations, grow

if TYPE_CHECKING:
    from skipc.compiler.select.candidates import Evaluate, Space


def search(space: Space, evaluate: Evaluate, seed: int) -> None:
    """Evaluates n(n+1)/2 configurations of n units.

    Raises:
        SelectError: They are more than may be evaluated.
    """
    check_evaluations("greedy", space, evaluate)
    grow(space, evaluate, width=1)
