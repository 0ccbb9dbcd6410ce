"""From the full network step by step, by rank (arXiv 2505.17626), or everything there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError
from skipc.compiler.select.space import MAX_CONFIGURATIONS

if TYPE_CHECKING:
    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.archive import Archive
    from skipc.compiler.select.space import Space

_WIDEST = 8


def greedy(space: Space, evaluate: Archive, seed: int) -> None:
    """Takes the step that is missed least, and asks anew.

    Raises:
        SelectError: It needs more evaluations than are allowed.
    """
    _check_evaluations("greedy", space, evaluate)
    _grow(space, evaluate, width=1)


def beam(space: Space, evaluate: Archive, seed: int) -> None:
    """Grows as many configurations side by side as the evaluations allow, eight at most.

    Raises:
        SelectError: They do not allow one.
    """
    _check_evaluations("beam", space, evaluate)
    _grow(space, evaluate, min(evaluate.left // greedy_evaluations(space), _WIDEST))


def exhaustive(space: Space, evaluate: Archive, seed: int) -> None:
    """Evaluates every configuration.

    Raises:
        SelectError: There are more than 2^12.
    """
    if space.size > MAX_CONFIGURATIONS:
        raise SelectError(
            f"--search exhaustive: {space.text} give {space.size} configurations, more than"
            f" the {MAX_CONFIGURATIONS} that it takes. Keep some with --keep, or use another"
            " search."
        )
    evaluate(space.everything())


def greedy_evaluations(space: Space) -> int:
    """Returns how many configurations greedy evaluates at most, the full one apart.

    n(n+1)/2 for n genes of two values; each further value is a round of all genes.
    """
    genes, steps = len(space.free), len(space.steps)
    return genes * (steps - genes) + genes * (genes + 1) // 2


def _check_evaluations(name: str, space: Space, evaluate: Archive) -> None:
    needed = greedy_evaluations(space)
    if evaluate.left < needed:
        raise SelectError(
            f"--search {name}: {space.text} need at least {needed} evaluations, and"
            f" {evaluate.left} are allowed. Give more with --evaluations, or use another"
            " search."
        )


def _grow(space: Space, evaluate: Archive, width: int) -> None:
    """Evaluates, round by round, every configuration one step above the ``width`` best.

    Of equals the cheaper one is better, then the one that leaves earlier genes alone.
    """
    evaluate([space.full])
    best: list[Genes] = [space.full]
    for _ in space.steps:
        larger = {
            space.sensible((*genes[:place], genes[place] + 1, *genes[place + 1 :]))
            for genes in best
            for place in space.free
            if genes[place] + 1 < space.genes[place].values
        }.difference(best)
        found = sorted(evaluate(sorted(larger)), key=lambda c: (-c.score, c.cost, c.genes))
        best = [candidate.genes for candidate in found[:width]]


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
    # Van der Corput's sequence: the bits of whole numbers, the last one first.
    sizes = sorted(range(1, len(order) + 1), key=lambda number: f"{number:032b}"[::-1])
    return [space.taking(order[:size]) for size in sizes]
