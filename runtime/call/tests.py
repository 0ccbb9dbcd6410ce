"""Tests of a route: from a stage's answer to where each row goes, as plain functions.

What decides at run time is what the compiler solves thresholds with: there is no other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from ..bundle.route import Test

    Floats = NDArray[np.float64]


class _Softmax(NamedTuple):
    """Of logits, the classes last: how far below the largest, ``exp`` of it, its sum."""

    below: Floats
    exp: Floats
    total: Any


def _softmax(logits: Floats) -> _Softmax:
    """Returns what all scores are made of; takes ``logits`` to pieces."""
    if logits.ndim == 1:  # by what NumPy is quickest in: calls cost more than 1,000 classes
        below = np.subtract(logits, logits[logits.argmax()], logits)
        exp = np.exp(below)
        return _Softmax(below, exp, float(np.add.reduce(exp)))
    below = np.subtract(logits, np.maximum.reduce(logits, -1)[..., None], logits)
    exp = np.exp(below)
    return _Softmax(below, exp, np.add.reduce(exp, -1))


def _max_softmax(of: _Softmax) -> Any:
    """Returns the largest probability."""
    return 1.0 / of.total


def _margin(of: _Softmax) -> Any:
    """Returns how far the two largest probabilities are apart; 1 of one class."""
    if of.exp.shape[-1] < 2:
        return np.ones_like(of.total)
    if of.exp.ndim > 1:
        return (1.0 - np.partition(of.exp, -2)[..., -2]) / of.total
    others = of.exp.copy()
    others[of.below.argmax()] = 0.0
    return (1.0 - others.item(others.argmax())) / of.total


def _entropy(of: _Softmax) -> Any:
    """Returns the entropy, as a share of the largest possible: 0 is sure."""
    classes = of.exp.shape[-1]
    if classes < 2:
        return np.zeros_like(of.total)
    terms = np.maximum(of.below, _NEVER)
    terms *= of.exp
    return (np.log(of.total) - np.add.reduce(terms, -1) / of.total) / math.log(classes)


_NEVER = -1000.0
"""Below this ``exp`` is 0, which times a logarithm of minus infinity were no number."""
_SCORES: Mapping[str, Callable[[_Softmax], Any]] = {
    "max-softmax": _max_softmax,
    "margin": _margin,
    "entropy": _entropy,
}


def score(test: Test, output: NDArray[Any], before: NDArray[Any] | None = None) -> Floats:
    """Returns each row's weighted sum of scores, which the test's threshold is compared with.

    Args:
        test: The test.
        output: (rows, classes), or (rows, classes, ...), where the scores of all places are
            averaged; for ``value`` it is one number in each row.
        before: What the rows were answered before, as ``output``; for ``agreement``, which is
            0 without it.
    """
    return np.array(_score(test, output, before), ndmin=1)


def _score(test: Test, output: NDArray[Any], before: NDArray[Any] | None) -> Any:
    """Returns ``score``, as a single number of one row."""
    softmax: _Softmax | None = None
    total: Any = 0.0
    for name, weight in test.scores.items():
        if name == "agreement":
            total = total + weight * _agreement(output, before)
        elif name == "value":
            total = total + weight * output.astype(np.float64).reshape(len(output), -1)[:, 0]
        else:
            if softmax is None:
                softmax = _softmax(_logits(test, output))
            found = _SCORES[name](softmax)
            total = total + weight * (found if softmax.exp.ndim < 3 else found.mean(axis=1))
    return total


def _logits(test: Test, output: NDArray[Any]) -> Floats:
    """Returns a copy of an answer as logits, the classes last; of one row without the rows."""
    if output.ndim == 2 and len(output) == 1:
        output = output[0]
    logits = output.astype(np.float64)
    if test.temperature != 1:
        logits /= test.temperature
    if logits.ndim > 2:
        logits = np.moveaxis(logits.reshape(*logits.shape[:2], -1), 1, -1)
    return logits


def _agreement(output: NDArray[Any], before: NDArray[Any] | None) -> NDArray[Any]:
    """Returns the share of places, (rows,), whose class is the one that it was before."""
    if before is None:
        return np.zeros(len(output))
    same: NDArray[Any] = output.argmax(1) == before.argmax(1)
    return same if same.ndim < 2 else same.reshape(len(same), -1).mean(1)


def goes_to(
    test: Test,
    stage: int,
    output: NDArray[Any],
    before: NDArray[Any] | None = None,
    bias: float | None = None,
    open_ways: Sequence[bool] = (),
) -> list[int]:
    """Returns the stage that each row goes to; its own number where it is answered.

    A row whose score is not a number goes on. ``output`` is what the test looks at, and
    ``before`` what it is compared with: see ``score``. ``bias`` and ``open_ways`` are a
    router's, see ``ways_of``.
    """
    if test.stages:
        return [test.stages[way] for way in ways_of(test, output, bias, open_ways).tolist()]
    total, later, jump = _score(test, output, before), stage + 1, test.jump
    going = []
    for value in total.tolist() if isinstance(total, np.ndarray) else (total,):
        at = stage if value >= test.threshold else later
        going.append(jump.stage if jump is not None and value < jump.below else at)
    return going


def ways_of(
    test: Test,
    scores: NDArray[Any],
    bias: float | None = None,
    open_ways: Sequence[bool] = (),
) -> NDArray[np.intp]:
    """Returns which of its ways a router sends each row, (rows,), the first of equal ones.

    That is the one of the largest score less ``bias`` times its cost. What is not a number is
    picked by no row; where none is one, the last way is.

    Args:
        test: The router.
        scores: (rows, ways).
        bias: Instead of the test's own.
        open_ways: Which ways a row may go, at least one; empty for all.
    """
    values = scores.reshape(len(scores), -1).astype(np.float64)
    if test.costs:
        values -= (test.bias if bias is None else bias) * np.array(test.costs)
    unknown = ~(values > -np.inf)
    if open_ways:
        unknown |= ~np.array(open_ways)
    if not unknown.any():
        found: NDArray[np.intp] = values.argmax(1)
        return found
    last = max((way for way, is_open in enumerate(open_ways) if is_open), default=-1)
    values[unknown] = -np.inf
    none = unknown.all(1)
    return np.where(none, last % values.shape[1], values.argmax(1))
