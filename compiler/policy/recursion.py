"""Gates learnt backwards, the last exit first: each knows what the later ones will do.

Adaptive Neural Networks for Efficient Inference (Bolukbasi et al., 2017). Answering at exit k
costs ``t_k + lambda * l_k``: its time, and a price for a wrong answer. Whether that is less
than what the later, already learnt gates will come to is a binary problem, in which a mistake
costs the difference. So what all samples cost is, exactly,

    sum of min(here, later)  +  sum of |here - later| over the mistakes,

and each gate is learnt to make the second sum small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime.bundle.route import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Gate = Callable[[int, Bools, Floats], Bools]

_STEPS = 20
_CLOSE = 1e-4
_RIDGE = 1e-3


def backward(costs: Floats, gate: Gate, myopic: bool = False) -> Floats:
    """Returns what each sample costs under the gates, (N,).

    Args:
        costs: Of answering at each exit, (exits, N).
        gate: Called with an exit's number, from the last but one to the first, whether each
            sample should be answered there, and what a mistake costs; returns which samples
            it answers.
        myopic: Compare each exit with the last one, whatever the gates in between do.
    """
    later: Floats = costs[-1]
    for number in reversed(range(len(costs) - 1)):
        here = costs[number]
        against = costs[-1] if myopic else later
        answered = gate(number, here <= against, np.abs(here - against))
        later = np.where(answered, here, later)
    return later


def fitted_gate(scores: Floats, label: Bools, weight: Floats) -> tuple[Floats, float]:
    """Returns the weights of the scores, and the threshold, that lose little by mistakes.

    The weights, whose absolute values add up to 1, are those of a weighted logistic
    regression; the threshold is the best one that there is for them.

    Args:
        scores: (N, scores), between 0 and 1.
        label: Whether a sample should be answered, (N,).
        weight: What a mistake costs, (N,).
    """
    weights = direction(scores, label, weight)
    _, threshold = best_threshold(weighted(scores, weights), label, weight)
    return weights, threshold


def direction(scores: Floats, label: Bools, weight: Floats) -> Floats:
    """Returns the weights of ``fitted_gate``."""
    weights = _logistic(scores, label, weight)
    if not weights.any():  # all samples alike: the threshold says all
        weights[0] = 1.0
    weights /= np.abs(weights).sum()
    return weights


def weighted(scores: Floats, weights: Floats) -> Floats:
    """Returns the weighted sum of scores, (N,)."""
    # In the order of the test's own sum, so that ties fall as they will there.
    total = np.zeros(len(scores))
    for column, one in enumerate(weights):
        total += one * scores[:, column]
    return total


def best_threshold(total: Floats, label: Bools, weight: Floats) -> tuple[float, float]:
    """Returns what mistakes cost at the best threshold of a score, and that threshold.

    It lies half-way between two samples; ``NEVER`` answers none of them.

    Args:
        total: Samples are answered from the threshold on, (N,).
        label: Whether one should be, (N,).
        weight: What a mistake costs, (N,).
    """
    order = np.argsort(-total, kind="stable")
    falling = total[order]
    # What is lost when the first so many are answered, none at first.
    gains = np.where(label[order], -weight[order], weight[order])
    lost = weight[label].sum() + np.concatenate([[0.0], np.cumsum(gains)])
    apart = np.concatenate([[True], falling[1:] < falling[:-1], [True]])
    best = int(np.argmin(np.where(apart, lost, np.inf)))
    if best == 0:
        return float(lost[0]), NEVER
    below = falling[best] if best < len(falling) else falling[-1]
    return float(lost[best]), float((falling[best - 1] + below) / 2)


def _logistic(scores: Floats, label: Bools, weight: Floats) -> Floats:
    """Returns the direction of a weighted logistic regression, by Newton's steps."""
    scale = 1 / (scores.std(0) + 1e-9)
    inputs = np.hstack([(scores - scores.mean(0)) * scale, np.ones((len(scores), 1))])
    share = weight / max(float(weight.sum()), 1e-300)
    ridge = _RIDGE * np.diag([1.0] * scores.shape[1] + [1e-6])
    found = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(inputs @ found, -30, 30)))
        slope = inputs.T @ (share * (probability - label)) + ridge @ found
        bend = (inputs.T * (share * probability * (1 - probability))) @ inputs + ridge
        step = np.linalg.solve(bend, slope)
        # A far step would leave where the quadratic holds: separable samples have no minimum.
        size = float(np.abs(step).max())
        found = found - step / max(1.0, size)
        if size < _CLOSE:
            break
    direction: Floats = found[:-1] * scale
    return direction
