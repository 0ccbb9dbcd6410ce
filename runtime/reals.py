"""Numbers as callers give them: Python's, NumPy's, or something that is none."""

from __future__ import annotations

import math
from numbers import Real


def finite(given: object) -> float:
    """Returns a finite number as a float; NaN, which no comparison holds for, else."""
    if isinstance(given, bool) or not isinstance(given, Real):
        return math.nan
    try:
        number = float(given)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan
