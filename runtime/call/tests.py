"""Tests of a route: from a stage's answer to where each row goes, as plain functions.

What decides at run time is what the compiler solves thresholds with: there is no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ..bundle.route import Test

    Floats = NDArray[np.float64]


def max_softmax(logits: Floats) -> Floats:
    """Returns each row's largest probability; ``logits`` are (rows, classes, ...)."""
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Floats = 1.0 / exp.sum(axis=1)
    return found


def margin(logits: Floats) -> Floats:
    """Returns how far each row's two largest probabilities are apart; 1 of one class."""
    if logits.shape[1] < 2:
        return np.ones_like(logits[:, 0])
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    second = np.partition(exp, -2, axis=1)[:, -2]
    found: Floats = (1.0 - second) / exp.sum(axis=1)
    return found


def entropy(logits: Floats) -> Floats:
    """Returns each row's entropy, as a share of the largest possible: 0 is sure."""
    if logits.shape[1] < 2:
        return np.zeros_like(logits[:, 0])
    shifted = logits - logits.max(axis=1, keepdims=True)
    exp = np.exp(shifted)
    total = exp.sum(axis=1)
    # 0 * -inf, of a class that cannot be: it adds nothing.
    weighted = np.where(exp > 0, exp * np.where(exp > 0, shifted, 0.0), 0.0).sum(axis=1)
    found: Floats = (np.log(total) - weighted / total) / np.log(logits.shape[1])
    return found


def value(output: Floats) -> Floats:
    """Returns each row's first value as it is: what a network says of itself."""
    return output[:, 0]


_SCORES: Mapping[str, Callable[[Floats], Floats]] = {
    "max-softmax": max_softmax,
    "margin": margin,
    "entropy": entropy,
    "value": value,
}


def score(test: Test, output: NDArray[Any]) -> Floats:
    """Returns each row's weighted sum of scores, which the test's threshold is compared with.

    ``output`` is (rows, classes), or (rows, classes, ...), where the scores of all places are
    averaged; for ``value`` it is one number in each row.
    """
    rows = np.asarray(output, np.float64).reshape(len(output), *(output.shape[1:] or (1,)))
    logits = rows if test.temperature == 1 else rows / test.temperature
    total = np.zeros(len(rows))
    for name, weight in test.scores.items():
        found = _SCORES[name](rows if name == "value" else logits)
        total += weight * found.reshape(len(rows), -1).mean(axis=1)
    return total


def goes_to(test: Test, stage: int, output: NDArray[Any]) -> NDArray[np.intp]:
    """Returns the stage that each row goes to; its own number where it is answered.

    A row whose score is not a number goes on. ``output`` is what the test looks at, see
    ``score``.
    """
    if test.stages:
        places: NDArray[np.intp] = output.reshape(len(output), -1).argmax(axis=1)
        return np.asarray(test.stages, np.intp)[places]
    total = score(test, output)
    going = np.where(total >= test.threshold, stage, stage + 1)
    if test.jump is not None:
        going = np.where(total < test.jump.below, test.jump.stage, going)
    return going.astype(np.intp)
