"""Intervals of 95 % for a ratio of latencies, from medians of stretches (batches).

Student's interval on the logarithms of the ratios, so that A over B and B over A say the same.
Batch medians rather than single calls: single calls are correlated and have outliers, and a
bootstrap over them would take both for information. See ``summary.batch_medians_ms``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# Student's t, two-sided 95 %, for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook of
# Statistical Methods, 1.3.6.7.2).
_STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


LEAST_DIFFERENCE = 0.001
"""A smaller relative difference is not called one. An engine that was measured against itself
came out up to 0.09 % off, the same way for all of a run: where its memory lies stays as it is
for as long, and no interval within the run shows that (see tools/bench/trtbench_loop.py)."""


@dataclass(frozen=True, slots=True)
class RatioInterval:
    """A ratio of two latencies and where it lies with 95 % confidence.

    Attributes:
        ratio: The estimate: the geometric mean over the batches.
        low: The interval's lower end; None where there are too few batches to tell.
        high: Its upper end; likewise.
    """

    ratio: float
    low: float | None
    high: float | None

    def covering(self, ratio: float) -> RatioInterval:
        """Returns the interval widened to hold ``ratio``, too.

        Args:
            ratio: The quotient of the medians of all calls. Where calls are of two kinds (a
                neighbour that comes and goes) it differs from what the batches say, and
                neither is wrong.
        """
        if self.low is None or self.high is None:
            return self
        return replace(self, low=min(self.low, ratio), high=max(self.high, ratio))

    @property
    def slower(self) -> bool:
        """Whether the whole interval lies above 1 and ``LEAST_DIFFERENCE``."""
        return self.low is not None and self.low > 1 + LEAST_DIFFERENCE

    @property
    def faster(self) -> bool:
        """Whether the whole interval lies below 1 and ``LEAST_DIFFERENCE``."""
        return self.high is not None and self.high < 1 / (1 + LEAST_DIFFERENCE)

    @property
    def verdict(self) -> str:
        """``slower``, ``faster``, or why neither can be said."""
        if self.low is None or self.high is None:
            return "too few runs to tell"
        if self.slower:
            return "slower"
        return "faster" if self.faster else "no difference shown"


def paired_ratio(times_ms: Sequence[float], reference_ms: Sequence[float]) -> RatioInterval:
    """Returns the ratio of two configurations that were measured in the same rounds.

    What slows a stretch of rounds slows both, and falls out of their ratio.

    Args:
        times_ms: A configuration's batch medians, above zero.
        reference_ms: The reference's, of the same batches.
    """
    logs = np.log(times_ms) - np.log(reference_ms)
    if len(logs) < 2:
        return RatioInterval(math.exp(float(logs.mean())), None, None)
    error = float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return _interval(float(logs.mean()), error, len(logs) - 1)


def independent_ratio(new_ms: Sequence[float], old_ms: Sequence[float]) -> RatioInterval:
    """Returns the ratio of new latencies to old ones, measured at different times.

    Welch's interval (B. L. Welch, Biometrika 34, 1947): the variances may differ.

    Args:
        new_ms: Batch medians, above zero.
        old_ms: Batch medians, above zero; their number may be another.
    """
    new, old = np.log(new_ms), np.log(old_ms)
    mean = float(new.mean() - old.mean())
    if min(len(new), len(old)) < 2:
        return RatioInterval(math.exp(mean), None, None)
    parts = [float(logs.var(ddof=1)) / len(logs) for logs in (new, old)]
    total = sum(parts)
    # Tiny variances vanish when squared.
    shares = [part / total for part in parts] if total > 0 else [0.5, 0.5]
    freedom = 1 / sum(
        share**2 / (len(logs) - 1) for share, logs in zip(shares, (new, old), strict=True)
    )
    return _interval(mean, math.sqrt(total), freedom)


def student_factor(freedom: float) -> float:
    """Returns how many standard errors 95 % takes to either side.

    Args:
        freedom: Degrees of freedom, at least 1; rounded down and at most 30, which makes the
            interval wider, never narrower.
    """
    return _STUDENT[min(int(freedom + 1e-9), len(_STUDENT)) - 1]


def _interval(mean: float, error: float, freedom: float) -> RatioInterval:
    half = student_factor(freedom) * error
    return RatioInterval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))
