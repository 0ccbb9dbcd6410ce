"""Beam search: from the best configurations of one size to those of the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError

if TYPE_CHECKING:
    from skipc.compiler.select.candidates import Bits, Candidate, Evaluate, Space

_WIDEST = 8


def search(space: Space, evaluate: Evaluate, seed: int) -> None:
    """Grows as many configurations side by side as the evaluations allow, eight at most.

    Raises:
        SelectError: They do not allow one.
    """
    check_evaluations("beam", space, evaluate)
    grow(space, evaluate, min(evaluate.left // greedy_evaluations(space), _WIDEST))


def check_evaluations(name: str, space: Space, evaluate: Evaluate) -> None:
    """Checks that a beam of width 1 can be evaluated.

    Raises:
        SelectError: It cannot; the message says how many evaluations are needed.
    """
    needed = greedy_evaluations(space)
    if evaluate.left < needed:
        raise SelectError(
            f"--search {name}: {len(space.free)} units need at least {needed} evaluations, and"
            f" {evaluate.left} are allowed. Give more with --evaluations, or use another"
            " search."
        )


def greedy_evaluations(space: Space) -> int:
    """Returns how many configurations a beam of width 1 evaluates, the full one apart."""
    units = len(space.free)
    return units * (units + 1) // 2


def grow(space: Space, evaluate: Evaluate, width: int) -> None:
    """Evaluates, size by size, every configuration one unit above the ``width`` best."""
    evaluate([space.full])
    beam: list[Bits] = [space.full]
    for _ in space.free:
        larger = {
            tuple(bit or index == unit for index, bit in enumerate(bits))
            for bits in beam
            for unit in space.free
            if not bits[unit]
        }
        beam = [found.bits for found in best(evaluate(sorted(larger)), width)]


def best(candidates: list[Candidate], width: int) -> list[Candidate]:
    """Returns the best by score; the cheaper of equals, then that which skips later units."""
    return sorted(candidates, key=lambda c: (-c.score, c.cost, c.bits))[:width]
