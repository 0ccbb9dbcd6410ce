"""Latencies: what they come to by ``trtexec``'s definitions, and intervals of their ratios.

An interval is Student's, of 95 %, on the logarithms of the ratios, so that A over B and B over
A say the same. It is made of medians of stretches (batches) rather than of single calls, which
resemble their neighbours and have outliers: a bootstrap over them would take both for
information. Stretches hardly resemble one another (the method of batch means: Law, Simulation
Modeling and Analysis, chapter 9).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np

from skipc.runtime.bundle.constraints import AtLeast, Count, NotEmpty, Place, Positive
from skipc.runtime.errors import FormatError, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BATCHES = 30
"""Beyond this many, Student's factor hardly falls (2.045 for 30, 1.960 without end)."""

LEAST_DIFFERENCE = 0.001
"""A smaller relative difference is not called one. An engine that was measured against itself
came out up to 0.09 % off, the same way for all of a run: where its memory lies stays as it is
for as long, and no interval within the run shows that (see tools/bench/trtbench_loop.py)."""

# Student's t, two-sided 95 %, for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook of
# Statistical Methods, 1.3.6.7.2).
_STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def percent_of(text: str) -> float | None:
    """Returns the number in ``text`` if it is one from 0 to 100."""
    try:
        percent = float(text)
    except ValueError:
        return None
    return percent if 0 <= percent <= 100 else None


@dataclass(frozen=True, slots=True)
class _OfPercents:
    """An object whose keys are percentiles: a constraint of ``records.read``."""

    def check(self, value: Mapping[str, float], place: Place) -> None:
        for text in value:
            if percent_of(text) is None:
                raise FormatError(
                    f"{place.inside}: {shown(text)} is no percentile: expected a number from"
                    " 0 to 100."
                )


NotNegative = Annotated[float, AtLeast(0)]


@dataclass(frozen=True, slots=True)
class RatioInterval:
    """A ratio of two latencies and where it lies with 95 % confidence.

    ``ratio`` is the geometric mean over the batches; the ends are None for too few of them.
    """

    ratio: Positive
    low: Positive | None
    high: Positive | None

    def covering(self, ratio: float) -> RatioInterval:
        """Returns the interval widened to hold the quotient of the medians of all calls, too.

        Where calls are of two kinds (a neighbour that comes and goes) it differs from what
        the batches say, and neither is wrong.
        """
        if self.low is None or self.high is None:
            return self
        return replace(self, low=min(self.low, ratio), high=max(self.high, ratio))

    def verdict(self, margin: float = LEAST_DIFFERENCE) -> str:
        """Returns ``slower``, ``faster`` (by more than ``margin``), or why neither is said."""
        if self.low is None or self.high is None:
            return "too few runs to tell"
        if self.low > 1 + margin:
            return "slower"
        return "faster" if self.high < 1 / (1 + margin) else "no difference shown"

    @property
    def ends_text(self) -> str | None:
        """Both ends, e.g. ``0.876 .. 0.878``; None where they are not known."""
        known = self.low is not None and self.high is not None
        return f"{self.low:.3f} .. {self.high:.3f}" if known else None


@dataclass(frozen=True, slots=True)
class Times:
    """What some times come to.

    Percentiles are by percent as it was asked for: ``0`` is the fastest, ``100`` the slowest.
    """

    min_ms: NotNegative
    mean_ms: NotNegative
    median_ms: NotNegative
    max_ms: NotNegative
    percentiles_ms: Annotated[Mapping[str, float], _OfPercents()]


def times_of(times_ms: NDArray[np.float64], percents: Sequence[float]) -> Times:
    """Returns what times come to."""
    ordered_ms = np.sort(times_ms)
    return Times(
        min_ms=float(ordered_ms[0]),
        mean_ms=float(times_ms.mean()),
        median_ms=float(np.median(ordered_ms)),
        max_ms=float(ordered_ms[-1]),
        percentiles_ms={f"{each:.12g}": percentile_ms(ordered_ms, each) for each in percents},
    )


@dataclass(frozen=True, slots=True)
class Latency(Times):
    """The latencies of one configuration.

    Attributes:
        throughput_per_s: Calls per second of ``total_ms``.
        total_ms: What they took together: of calls made at the same time, from the start of
            the first to the end of the last.
        lowest_average_ms: The lowest mean of ``--avgRuns`` calls in a row.
        coefficient_of_variation: The population's standard deviation over the mean.
        batch_medians_ms: The medians of up to ``MOST_BATCHES`` equal stretches, in the order
            of time; the stretches of all configurations hold the same rounds.
    """

    mean_ms: Positive
    median_ms: Positive
    runs: Count
    throughput_per_s: Positive
    total_ms: Positive
    lowest_average_ms: Positive
    highest_average_ms: Positive
    coefficient_of_variation: float
    batch_medians_ms: Annotated[tuple[Positive, ...], NotEmpty()]

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where two values contradict one another."""
        batches = min(self.runs, MOST_BATCHES)
        if len(self.batch_medians_ms) != batches:
            raise FormatError(
                f"{where}: {self.runs} runs make {batches} of 'batch_medians_ms', found"
                f" {len(self.batch_medians_ms)}."
            )

    def over(self, reference: Latency) -> RatioInterval:
        """Returns the ratio to a latency that was measured in the same rounds."""
        ratio = paired_ratio(self.batch_medians_ms, reference.batch_medians_ms)
        return ratio.covering(self.median_ms / reference.median_ms)

    def since(self, old: Latency) -> RatioInterval:
        """Returns the ratio to a latency that was measured at another time."""
        ratio = independent_ratio(self.batch_medians_ms, old.batch_medians_ms)
        return ratio.covering(self.median_ms / old.median_ms)


def summarize(
    times_ms: NDArray[np.float64],
    percents: Sequence[float],
    average_runs: int,
    total_ms: float | None = None,
) -> Latency:
    """Returns what latencies come to.

    Args:
        times_ms: At least one, all above zero, in the order of time.
        percents: The percentiles wanted.
        average_runs: How many in a row are averaged; of fewer, all.
        total_ms: What they took together; None for their sum.
    """
    total_ms = float(times_ms.sum()) if total_ms is None else total_ms
    whole = len(times_ms) // average_runs * average_runs
    rows = times_ms[:whole].reshape(-1, average_runs) if whole else times_ms.reshape(1, -1)
    averages_ms, times = rows.mean(axis=1), times_of(times_ms, percents)
    return Latency(
        **asdict(times),
        runs=len(times_ms),
        throughput_per_s=len(times_ms) / total_ms * 1000,
        total_ms=total_ms,
        lowest_average_ms=float(averages_ms.min()),
        highest_average_ms=float(averages_ms.max()),
        coefficient_of_variation=float(times_ms.std()) / times.mean_ms,
        batch_medians_ms=batch_medians_ms(times_ms),
    )


def percentile_ms(ordered_ms: NDArray[np.float64], percent: float) -> float:
    """Returns a percentile of ascending values as ``trtexec`` defines it.

    Of N ``int((1 - percent / 100) * N)`` are left out at the top, and the largest of the
    others is the percentile (``sampleReporting.cpp``). The arithmetic is in single precision,
    as there: in double precision the 90th of ten values would be another one.
    """
    share = np.float32(1) - np.float32(percent) / np.float32(100)
    left_out = int(share * np.float32(len(ordered_ms)))
    return float(ordered_ms[max(len(ordered_ms) - 1 - left_out, 0)])


def batch_medians_ms(times_ms: NDArray[np.float64]) -> tuple[float, ...]:
    """Returns the median of each of up to ``MOST_BATCHES`` stretches of nearly equal size."""
    batches = np.array_split(times_ms, min(MOST_BATCHES, len(times_ms)))
    return tuple(float(np.median(batch)) for batch in batches)


def paired_ratio(times_ms: Sequence[float], reference_ms: Sequence[float]) -> RatioInterval:
    """Returns the ratio of batch medians to others that were measured in the same rounds.

    What slows a stretch of rounds slows both, and falls out of their ratio.
    """
    return _interval(np.log(times_ms) - np.log(reference_ms))


def independent_ratio(new_ms: Sequence[float], old_ms: Sequence[float]) -> RatioInterval:
    """Returns the ratio of new batch medians to old ones, measured at different times.

    Welch's interval (B. L. Welch, Biometrika 34, 1947): the variances may differ, and so may
    the numbers of batches.
    """
    return _interval(np.log(new_ms), np.log(old_ms))


def _interval(logs: NDArray[np.float64], *others: NDArray[np.float64]) -> RatioInterval:
    """Returns the interval of the mean of ``logs``, less that of another sample if given."""
    samples = (logs, *others)
    mean = float(logs.mean() - sum(other.mean() for other in others))
    if min(map(len, samples)) < 2:
        return RatioInterval(math.exp(mean), None, None)
    parts = [float(sample.var(ddof=1)) / len(sample) for sample in samples]
    # Tiny variances vanish when squared.
    shares = [part / sum(parts) if sum(parts) > 0 else 1 / len(parts) for part in parts]
    squares = (share**2 / (len(n) - 1) for share, n in zip(shares, samples, strict=True))
    # Degrees of freedom are rounded down: the interval is wider, never narrower.
    half = student_factor(1 / sum(squares)) * math.sqrt(sum(parts))
    return RatioInterval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def student_factor(freedom: float) -> float:
    """Returns how many standard errors 95 % takes to either side, of at most 30 degrees."""
    return _STUDENT[min(int(freedom + 1e-9), len(_STUDENT)) - 1]
