"""The default: the ranking, then what a model of the score expects most from.

After each round a small model is fitted to every score so far: a constant, one weight per
step, one per pair of neighbouring genes that both differ from the full network, and one for
the square of how many do. Of the configurations that differ from the front in one decision,
or have one decision exchanged for another, those are evaluated next whose predicted score
would add most hypervolume. docs/select.md compares it with the others.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.select.pareto import front_of, hypervolume
from skipc.compiler.select.searches.stepwise import nested
from skipc.compiler.select.space import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.archive import Archive
    from skipc.compiler.select.pareto import ReferencePoint
    from skipc.compiler.select.space import Space

_ROUND = 4
_CONSIDERED = 400
"""Of a deep network's neighbours so many are drawn: predicting all takes too long."""

_RIDGE = 1e-3


def surrogate(space: Space, evaluate: Archive, seed: int) -> None:
    """Runs the ranking, then improves the front until nothing near it is left."""
    rng = random.Random(seed)
    evaluate(nested(space, evaluate))
    while True:
        near = dict.fromkeys(
            other for found in evaluate.front for other in _neighbours(space, found.genes)
        )
        new = [genes for genes in near if genes not in evaluate.candidates]
        if not new:
            return
        considered = new if len(new) <= _CONSIDERED else rng.sample(new, _CONSIDERED)
        model = _fitted(space, evaluate.candidates.values())
        scores = _features(space, considered) @ model
        predicted = [
            Candidate(genes, float(score), evaluate.cost(genes))
            for genes, score in zip(considered, scores, strict=True)
        ]
        evaluate(_most_promising(predicted, evaluate.front, evaluate.reference))


def _most_promising(
    predicted: list[Candidate], front: tuple[Candidate, ...], reference: ReferencePoint
) -> list[Genes]:
    """Returns those that add most hypervolume, each given the ones before it."""
    chosen: list[Genes] = []
    while predicted and len(chosen) < _ROUND:
        best = max(predicted, key=lambda c: hypervolume(front_of((*front, c)), reference))
        chosen.append(best.genes)
        front = front_of((*front, best))
        predicted = [candidate for candidate in predicted if candidate is not best]
    return chosen


def _fitted(space: Space, found: Iterable[Candidate]) -> NDArray[np.float64]:
    """Returns the model's weights, by ridge regression."""
    known = list(found)
    inputs = _features(space, [candidate.genes for candidate in known])
    scores = np.array([candidate.score for candidate in known])
    normal = inputs.T @ inputs + _RIDGE * np.eye(inputs.shape[1])
    weights: NDArray[np.float64] = np.linalg.solve(normal, inputs.T @ scores)
    return weights


def _features(space: Space, configurations: list[Genes]) -> NDArray[Any]:
    genes, values = np.array(space.steps).T
    taken = np.array(configurations)[:, genes] == values
    changed = (np.array(configurations)[:, list(space.free)] > 0).astype(np.float64)
    together = changed[:, :-1] * changed[:, 1:]
    count = changed.sum(1, keepdims=True)
    return np.hstack([np.ones_like(count), taken, together, count**2])


def _neighbours(space: Space, genes: Genes) -> list[Genes]:
    """Returns what differs from ``genes`` in one decision, or has one exchanged."""
    changed = [gene for gene in space.free if genes[gene]]
    other = [step for step in space.steps if step[1] != genes[step[0]]]
    single = [{gene: value} for gene, value in other]
    back = [{gene: 0} for gene in changed]
    swaps = [{one: 0, gene: v} for one in changed for gene, v in other if not genes[gene]]
    return [
        space.sensible(tuple(change.get(place, value) for place, value in enumerate(genes)))
        for change in (*sorted(single + back, key=min), *swaps)
    ]
