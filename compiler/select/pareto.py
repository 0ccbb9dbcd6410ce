"""Pareto fronts of score against cost: what is on them, how much they cover, thinning."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skipc.compiler.select.space import Candidate


@dataclass(frozen=True, slots=True)
class ReferencePoint:
    """What a front must be better than to cover anything.

    Attributes:
        cost: The cost of the full network.
        score: The score of knowing nothing, e.g. always answering the most frequent class.
        ideal: The best score there could be.
    """

    cost: float
    score: float
    ideal: float = 1.0


def front_of(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Returns the candidates that no other beats, the cheapest first.

    Of those with the same score and cost one stays: the one nearest to the full network, then
    the first in lexicographic order.
    """
    front: list[Candidate] = []
    for candidate in sorted(
        candidates, key=lambda c: (c.cost, -c.score, sum(c.genes), c.genes)
    ):
        if not front or candidate.score > front[-1].score:
            front.append(candidate)
    return tuple(front)


def hypervolume(front: Sequence[Candidate], reference: ReferencePoint) -> float:
    """Returns the share of the box between reference and ideal that ``front`` covers.

    The ideal costs nothing; ``front`` is as ``front_of`` returns it. Zitzler and Thiele 1998
    ("Multiobjective optimization using evolutionary algorithms", section 3.1).
    """
    inside = [c for c in front if c.cost < reference.cost and c.score > reference.score]
    costs = [*(c.cost for c in inside), reference.cost]
    area = sum(
        (after - before) * (candidate.score - reference.score)
        for candidate, (before, after) in zip(inside, itertools.pairwise(costs), strict=True)
    )
    box = reference.cost * (reference.ideal - reference.score)
    return area / box if box > 0 else 0.0


def thin(
    front: Sequence[Candidate], size: int, reference: ReferencePoint
) -> tuple[Candidate, ...]:
    """Returns the ``size`` candidates of a front that together cover most.

    The cheapest and the best are always among them (of one, the best).
    """
    if len(front) <= size:
        return tuple(front)
    if size == 1:
        return (front[-1],)
    # best[i]: most that a choice ending in i covers below the cost of i, and that choice.
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, (0,))}
    for _ in range(size - 1):
        grown: dict[int, tuple[float, tuple[int, ...]]] = {}
        for last, (area, chosen) in best.items():
            height = front[last].score - reference.score
            for nxt in range(last + 1, len(front)):
                more = area + (front[nxt].cost - front[last].cost) * height
                if nxt not in grown or more > grown[nxt][0]:
                    grown[nxt] = (more, (*chosen, nxt))
        best = grown
    return tuple(front[index] for index in best[len(front) - 1][1])
