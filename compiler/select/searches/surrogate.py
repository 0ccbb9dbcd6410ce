"""The default: the ranking, then what a model of the score expects most from.

After each round a small model is fitted to every score so far: a constant, one weight per
unit, one per pair of neighbouring units that are skipped together, and one for the square of
how many are. Of the configurations that differ from the front in one decision, or have one
skipped unit exchanged for another, those are evaluated next whose predicted score would add
most hypervolume. docs/select.md compares it with the others.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.select.candidates import Candidate
from skipc.compiler.select.pareto import front_of, hypervolume
from skipc.compiler.select.searches.rank import nested, ranked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from skipc.compiler.select.candidates import Bits, Evaluate, Space
    from skipc.compiler.select.pareto import ReferencePoint

_ROUND = 4
_CONSIDERED = 400
"""Of a deep network's neighbours so many are drawn: predicting all takes too long."""

_RIDGE = 1e-3


def search(space: Space, evaluate: Evaluate, seed: int) -> None:
    """Runs the ranking, then improves the front until nothing near it is left."""
    rng = random.Random(seed)
    evaluate(nested(space, ranked(space, evaluate)))
    while True:
        near = dict.fromkeys(
            other for found in evaluate.front for other in _neighbours(space, found.bits)
        )
        new = [bits for bits in near if bits not in evaluate.candidates]
        if not new:
            return
        considered = new if len(new) <= _CONSIDERED else rng.sample(new, _CONSIDERED)
        model = _fitted(space, evaluate.candidates.values())
        scores = _features(space, considered) @ model
        predicted = [
            Candidate(bits, float(score), evaluate.cost(bits))
            for bits, score in zip(considered, scores, strict=True)
        ]
        evaluate(_most_promising(predicted, evaluate.front, evaluate.reference))


def _most_promising(
    predicted: list[Candidate], front: tuple[Candidate, ...], reference: ReferencePoint
) -> list[Bits]:
    """Returns those that add most hypervolume, each given the ones before it."""
    chosen: list[Bits] = []
    while predicted and len(chosen) < _ROUND:
        best = max(predicted, key=lambda c: hypervolume(front_of((*front, c)), reference))
        chosen.append(best.bits)
        front = front_of((*front, best))
        predicted = [candidate for candidate in predicted if candidate is not best]
    return chosen


def _fitted(space: Space, found: Iterable[Candidate]) -> NDArray[np.float64]:
    """Returns the model's weights, by ridge regression."""
    known = list(found)
    inputs = _features(space, [candidate.bits for candidate in known])
    scores = np.array([candidate.score for candidate in known])
    normal = inputs.T @ inputs + _RIDGE * np.eye(inputs.shape[1])
    weights: NDArray[np.float64] = np.linalg.solve(normal, inputs.T @ scores)
    return weights


def _features(space: Space, configurations: list[Bits]) -> NDArray[Any]:
    skipped = np.array(configurations, np.float64)[:, list(space.free)]
    together = skipped[:, :-1] * skipped[:, 1:]
    count = skipped.sum(1, keepdims=True)
    return np.hstack([np.ones_like(count), skipped, together, count**2])


def _neighbours(space: Space, bits: Bits) -> list[Bits]:
    """Returns what differs from ``bits`` in one unit, or has one skipped unit exchanged."""
    skipped = [unit for unit in space.free if bits[unit]]
    kept = [unit for unit in space.free if not bits[unit]]
    flips = [{unit} for unit in space.free]
    swaps = [{one, other} for one in skipped for other in kept]
    return [
        tuple(bit != (index in change) for index, bit in enumerate(bits))
        for change in (*flips, *swaps)
    ]
