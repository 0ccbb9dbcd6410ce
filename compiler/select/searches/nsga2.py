"""NSGA-II (Deb et al. 2002) over the genes as bits, by pymoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.extras import require
from skipc.compiler.select.searches.stepwise import nested

if TYPE_CHECKING:
    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.archive import Archive
    from skipc.compiler.select.space import Space

_LARGEST_POPULATION = 24


def nsga2(space: Space, evaluate: Archive, seed: int) -> None:
    """Starts from the ranking's configurations and evolves until the evaluations are spent.

    A gene is as many bits as it has values but 0, and as large as the largest that is set.
    """
    require("pymoo", "select")
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.bitflip import BitflipMutation
    from pymoo.optimize import minimize

    start = [space.full, *nested(space, evaluate)]
    evaluate(start)
    steps = space.steps

    class Steps(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(steps), n_obj=2, xl=0, xu=1, vtype=bool)

        def _evaluate(self, x: Any, out: Any, *args: Any, **kwargs: Any) -> None:
            batch = [
                space.taking(step for step, bit in zip(steps, row, strict=True) if bit)
                for row in x.astype(bool)
            ]
            out["F"] = np.array([(-found.score, found.cost) for found in evaluate(batch)])

    def bits(genes: Genes) -> list[bool]:
        return [value <= genes[gene] for gene, value in steps]

    size = min(len(start), _LARGEST_POPULATION)
    first = np.linspace(0, len(start) - 1, size, dtype=int)
    algorithm = NSGA2(
        pop_size=size,
        sampling=np.array([bits(start[number]) for number in first], bool),
        crossover=TwoPointCrossover(),
        mutation=BitflipMutation(),
        eliminate_duplicates=True,
    )
    # Small spaces run out of configurations before the evaluations are spent.
    generations = 4 * max(evaluate.left, 1) // algorithm.pop_size + 10
    minimize(Steps(), algorithm, ("n_gen", generations), seed=seed, verbose=False)
