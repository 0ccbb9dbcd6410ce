"""Everything a search has evaluated, within its evaluations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError
from skipc.compiler.select.pareto import ReferencePoint, front_of, hypervolume
from skipc.compiler.select.space import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from skipc.compiler.axes.axis import Genes

    Score = Callable[[Sequence[Genes]], Iterator[tuple[Genes, float]]]
    Progress = Callable[[int, int, float], None]


class EvaluationsSpentError(Exception):
    """Ends a search: it may evaluate no more configurations."""


class Archive:
    """Evaluates configurations once each, and keeps them: what a search judges with.

    What the scorer has yielded is kept whatever ends it, Ctrl-C included.

    Args:
        score: Yields configurations with their scores, in an order of its own; those that
            share a prefix are cheaper in one batch than apart.
        cost: What a configuration costs; asking is no evaluation.
        reference: Bounds the hypervolume.
        budget: How many configurations may be evaluated.
        progress: Told after each one: how many, of how many, the front's hypervolume.
    """

    def __init__(
        self,
        score: Score,
        cost: Callable[[Genes], float],
        reference: ReferencePoint,
        budget: int,
        progress: Progress = lambda done, budget, volume: None,
    ) -> None:
        self._score = score
        self.cost = cost
        self.reference = reference
        self._budget = budget
        self._progress = progress
        self._found: dict[Genes, Candidate] = {}

    @property
    def left(self) -> int:
        """How many configurations may still be evaluated."""
        return self._budget - len(self._found)

    def __call__(self, batch: Sequence[Genes]) -> list[Candidate]:
        """Returns the candidates in the order of ``batch``; those known cost nothing.

        Raises:
            EvaluationsSpentError: They are more than may still be evaluated; as many as
                possible were.
            SelectError: A score is not a finite number.
        """
        new = list(dict.fromkeys(genes for genes in batch if genes not in self._found))
        spent = len(new) > self.left
        for genes, score in self._score(new[: self.left]):
            if not math.isfinite(score):
                raise SelectError(
                    f"the metric of the configuration {''.join(map(str, genes))} is {score};"
                    " it must be a finite number. Check the data and the metric."
                )
            self._found[genes] = Candidate(genes, score, self.cost(genes))
            self._progress(len(self._found), self._budget, self.hypervolume)
        if spent:
            raise EvaluationsSpentError(f"{self._budget} evaluations are spent")
        return [self._found[genes] for genes in batch]

    @property
    def candidates(self) -> Mapping[Genes, Candidate]:
        """What was evaluated so far, by configuration."""
        return self._found

    @property
    def front(self) -> tuple[Candidate, ...]:
        """The candidates that no other beats, the cheapest first."""
        return front_of(self._found.values())

    @property
    def hypervolume(self) -> float:
        """The share of the box between reference and ideal that the front covers."""
        return hypervolume(self.front, self.reference)
