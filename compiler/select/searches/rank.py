"""Sensitivity of every unit alone, then nested configurations (arXiv 2505.17626)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skipc.compiler.select.candidates import Bits, Evaluate, Space


def search(space: Space, evaluate: Evaluate, seed: int) -> None:
    """Evaluates each unit alone, then the nested configurations of the ranking."""
    evaluate(nested(space, ranked(space, evaluate)))


def ranked(space: Space, evaluate: Evaluate) -> list[int]:
    """Returns the free units, the one that is missed least first.

    Of units that are missed alike the one that saves more comes first, then the one nearer
    the output, which stochastic depth trained to be missed more often.
    """
    evaluate([space.full])
    alone = evaluate([space.skipping([unit]) for unit in space.free])
    by_unit = dict(zip(space.free, alone, strict=True))
    return sorted(
        space.free, key=lambda unit: (-by_unit[unit].score, by_unit[unit].cost, -unit)
    )


def nested(space: Space, order: list[int]) -> list[Bits]:
    """Returns the configurations that skip the first units of ``order``, one per size.

    Sizes that are far apart come first: if not all can be evaluated, what was is spread.
    """
    sizes = range(1, len(order) + 1)
    return [space.skipping(order[:size]) for size in sorted(sizes, key=_reversed_bits)]


def _reversed_bits(number: int) -> str:
    """Returns a key that sorts whole numbers by van der Corput's sequence."""
    return f"{number:032b}"[::-1]
