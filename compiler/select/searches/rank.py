"""Sensitivity to every step alone, then nested configurations (arXiv 2505.17626)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.archive import Archive
    from skipc.compiler.select.space import Space


def rank(space: Space, evaluate: Archive, seed: int) -> None:
    """Evaluates each step alone, then the nested configurations of the ranking."""
    evaluate(nested(space, evaluate))


def nested(space: Space, evaluate: Archive) -> list[Genes]:
    """Returns the configurations of the best first steps, one per number of steps.

    Of steps that are missed alike the one that saves more comes first, then the one nearer
    the output, which stochastic depth trained to be missed more often. Numbers that are far
    apart come first: if not all can be evaluated, what was is spread.
    """
    evaluate([space.full])
    alone = evaluate([space.taking([step]) for step in space.steps])
    ranked = sorted(
        zip(space.steps, alone, strict=True),
        key=lambda pair: (-pair[1].score, pair[1].cost, -pair[0][0], -pair[0][1]),
    )
    order = [step for step, _ in ranked]
    sizes = range(1, len(order) + 1)
    return [space.taking(order[:size]) for size in sorted(sizes, key=_reversed_bits)]


def _reversed_bits(number: int) -> str:
    """Returns a key that sorts whole numbers by van der Corput's sequence."""
    return f"{number:032b}"[::-1]
