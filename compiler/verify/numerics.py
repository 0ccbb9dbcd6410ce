"""How far two sets of outputs are apart. NumPy only: it runs on the device, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Case = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two sets of outputs are apart (see ``Verification``)."""

    max_abs_error: float
    relative_error: float


def difference(actual: list[Case], expected: list[Case]) -> Difference:
    """Returns the largest error over all cases and outputs.

    The range of an output is taken over all cases; where it is zero (a single constant
    value) the largest magnitude takes its place.
    """
    max_abs, relative = 0.0, 0.0
    for name in expected[0]:
        pairs = [(a[name], e[name]) for a, e in zip(actual, expected, strict=True)]
        if any(a.shape != e.shape or a.dtype != e.dtype for a, e in pairs):
            return Difference(float("inf"), float("inf"))
        error = 0.0
        for a, e in pairs:
            error = _worse(error, _max_abs_error(a, e))
        spread = _range([e for _, e in pairs])
        max_abs = _worse(max_abs, error)
        relative = _worse(relative, error / spread if spread else error)
    return Difference(max_abs, relative)


def _max_abs_error(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    if expected.size == 0:
        return 0.0
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        # Equal infinities and NaN in the same places are no difference.
        same = (a == e) | (np.isnan(a) & np.isnan(e))
        return float(np.max(np.where(same, 0.0, np.abs(a - e))))


def _range(arrays: list[NDArray[Any]]) -> float:
    finite = [a[np.isfinite(a)] for a in (array.astype(np.float64) for array in arrays)]
    values = np.concatenate([a.ravel() for a in finite])
    if values.size == 0:
        return 0.0
    spread = float(values.max() - values.min())
    return spread or float(np.abs(values).max())


def _worse(left: float, right: float) -> float:
    return float(np.maximum(left, right))  # NaN wins
