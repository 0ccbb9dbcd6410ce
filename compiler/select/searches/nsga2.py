"""NSGA-II (Deb et al. 2002) over the units as bits, by pymoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.extras import require
from skipc.compiler.select.searches.rank import nested, ranked

if TYPE_CHECKING:
    from skipc.compiler.select.candidates import Evaluate, Space

_LARGEST_POPULATION = 24


def search(space: Space, evaluate: Evaluate, seed: int) -> None:
    """Starts from the ranking's configurations and evolves until the evaluations are spent."""
    require("pymoo", "select")
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.bitflip import BitflipMutation
    from pymoo.optimize import minimize

    start = [space.full, *nested(space, ranked(space, evaluate))]
    evaluate(start)
    free = np.array(space.free)

    class Units(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(free), n_obj=2, xl=0, xu=1, vtype=bool)

        def _evaluate(self, x: Any, out: Any, *args: Any, **kwargs: Any) -> None:
            batch = [space.skipping(free[row.astype(bool)].tolist()) for row in x]
            out["F"] = np.array([(-found.score, found.cost) for found in evaluate(batch)])

    first = np.array([np.array(bits)[free] for bits in start], bool)
    algorithm = NSGA2(
        pop_size=min(len(first), _LARGEST_POPULATION),
        sampling=first[
            np.linspace(0, len(first) - 1, min(len(first), _LARGEST_POPULATION), dtype=int)
        ],
        crossover=TwoPointCrossover(),
        mutation=BitflipMutation(),
        eliminate_duplicates=True,
    )
    # Small spaces run out of configurations before the evaluations are spent.
    generations = 4 * max(evaluate.left, 1) // algorithm.pop_size + 10
    minimize(Units(), algorithm, ("n_gen", generations), seed=seed, verbose=False)
