"""How far two sets of outputs are apart: one definition, wherever they are compared.

NumPy only: it runs on the device, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Case = dict[str, NDArray[Any]]
Ranges = Mapping[str, float]
"""By output, what errors are a fraction of."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far outputs are from those that they are compared with.

    Attributes:
        max_abs_error: The largest difference of two values.
        relative_error: The largest difference over the range of its output.
        unlike: Where shapes or types differ, the words that say so, and both errors are NaN.
    """

    max_abs_error: float
    relative_error: float
    unlike: str = ""

    def within(self, tolerance: float) -> bool:
        """Tells whether the relative error is a number, and at most ``tolerance``."""
        return self.relative_error <= tolerance

    def text(self, reference: str, tolerance: float) -> str:
        """Returns a sentence on outputs that are too far from ``reference``."""
        if self.unlike:
            return f"{self.unlike} in {reference}."
        return (
            f"its outputs differ from {reference} by {self.relative_error:.3g} of the output's"
            f" range ({self.max_abs_error:.3g} absolute), more than the tolerance of"
            f" {tolerance:.3g}."
        )


def difference(actual: list[Case], expected: list[Case], ranges: Ranges) -> Difference:
    """Returns the largest error over all cases and outputs, as a fraction of their ranges."""
    max_abs, relative = 0.0, 0.0
    for found, wanted in zip(actual, expected, strict=True):
        for name, array in wanted.items():
            unlike = _unlike(name, found[name], array)
            if unlike:
                return Difference(np.nan, np.nan, unlike)
            error = _max_abs_error(found[name], array)
            # NaN wins.
            max_abs = float(np.maximum(max_abs, error))
            relative = float(np.maximum(relative, error / ranges[name]))
    return Difference(max_abs, relative)


def ranges_of(expected: list[Case], least: Ranges) -> dict[str, float]:
    """Returns the range of each output: its largest less its smallest value, over all cases.

    Where that is 0 (a single value) its magnitude takes its place; where that is 0, too, 1.
    ``least`` says what an output is taken to vary by at least.
    """
    found = {}
    for name, minimum in least.items():
        one = max(magnitude(case[name]) for case in expected)
        found[name] = max(spread(expected, name) or one, minimum) or 1.0
    return found


def least_around_one(expected: list[Case], share: float) -> dict[str, float]:
    """Returns ``share`` of each output's magnitude or of 1; see ``Tolerance.least_range``."""
    return {
        name: share * max(1.0, *(magnitude(case[name]) for case in expected))
        for name in expected[0]
    }


def spread(cases: list[Case], name: str) -> float:
    """Returns the largest less the smallest finite value of an output over all cases."""
    values = np.concatenate([_finite(case[name]) for case in cases])
    return float(values.max() - values.min()) if values.size else 0.0


def magnitude(array: NDArray[Any]) -> float:
    """Returns the largest absolute value that is finite; 0 where there is none."""
    values = _finite(array)
    return float(np.abs(values).max()) if values.size else 0.0


def _finite(array: NDArray[Any]) -> NDArray[np.float64]:
    values = array.astype(np.float64).ravel()
    return values[np.isfinite(values)]


def _unlike(name: str, actual: NDArray[Any], expected: NDArray[Any]) -> str:
    if actual.dtype == expected.dtype and actual.shape == expected.shape:
        return ""
    rows = f" at a batch of {expected.shape[0]}" if expected.ndim else ""
    return (
        f"the output {name!r} is {actual.dtype} of shape {list(actual.shape)}{rows}, but"
        f" {expected.dtype} of shape {list(expected.shape)}"
    )


def _max_abs_error(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    if expected.size == 0:
        return 0.0
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        # Equal infinities and NaN in the same places are no difference.
        same = (a == e) | (np.isnan(a) & np.isnan(e))
        return float(np.max(np.where(same, 0.0, np.abs(a - e))))
