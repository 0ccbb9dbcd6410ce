"""What a configuration's latencies come to, by ``trtexec``'s definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_BATCHES = 30
"""Beyond this many, Student's factor hardly falls (2.045 for 30, 1.960 without end)."""


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile of the latency.

    Attributes:
        percent: Which one: 0 is the fastest call, 100 the slowest.
        ms: The latency in milliseconds.
    """

    percent: float
    ms: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The latencies of one configuration.

    Attributes:
        runs: How many calls were measured.
        total_ms: What they took together: of calls made at the same time, from the start of
            the first to the end of the last.
        min_ms: The fastest.
        max_ms: The slowest.
        mean_ms: Their mean.
        median_ms: Their median; between the two middle ones where their number is even.
        percentiles: Those asked for.
        variation: Coefficient of variation: the population's standard deviation over the mean.
        lowest_average_ms: The lowest mean of ``--avgRuns`` calls in a row.
        highest_average_ms: The highest such mean.
        batch_medians_ms: The medians of up to ``MOST_BATCHES`` equal stretches, in the order
            of time; the stretches of all configurations hold the same rounds.
    """

    runs: int
    total_ms: float
    min_ms: float
    max_ms: float
    mean_ms: float
    median_ms: float
    percentiles: tuple[Percentile, ...]
    variation: float
    lowest_average_ms: float
    highest_average_ms: float
    batch_medians_ms: tuple[float, ...]

    @property
    def throughput_per_s(self) -> float:
        """Calls per second of the time that they took together."""
        return self.runs / self.total_ms * 1000


def summarize(
    times_ms: NDArray[np.float64],
    percents: Sequence[float],
    average_runs: int,
    total_ms: float | None = None,
) -> Summary:
    """Returns the summary of the latencies ``times_ms``.

    Args:
        times_ms: At least one, all above zero, in the order of time.
        percents: The percentiles wanted, 0 to 100.
        average_runs: How many calls in a row are averaged; what is left over at the end is
            averaged, too, if there is nothing else.
        total_ms: What they took together; None for their sum.
    """
    ordered = np.sort(times_ms)
    mean_ms = float(times_ms.mean())
    whole = len(times_ms) // average_runs * average_runs
    rows = times_ms[:whole].reshape(-1, average_runs) if whole else times_ms.reshape(1, -1)
    averages = rows.mean(axis=1)
    return Summary(
        runs=len(times_ms),
        total_ms=float(times_ms.sum()) if total_ms is None else total_ms,
        min_ms=float(ordered[0]),
        max_ms=float(ordered[-1]),
        mean_ms=mean_ms,
        median_ms=float(np.median(ordered)),
        percentiles=tuple(Percentile(p, percentile_ms(ordered, p)) for p in percents),
        variation=float(times_ms.std()) / mean_ms,
        lowest_average_ms=float(averages.min()),
        highest_average_ms=float(averages.max()),
        batch_medians_ms=batch_medians_ms(times_ms),
    )


def percentile_ms(ordered_ms: NDArray[np.float64], percent: float) -> float:
    """Returns a percentile as ``trtexec`` defines it (``sampleReporting.cpp``).

    Of N ascending values ``int((1 - percent / 100) * N)`` are left out at the top, and the
    largest of the others is the percentile; no values are interpolated. The arithmetic is in
    single precision, as there: in double precision the 90th percentile of ten values would be
    another one.

    Args:
        ordered_ms: Ascending, at least one.
        percent: 0 to 100.
    """
    count = len(ordered_ms)
    share = np.float32(1) - np.float32(percent) / np.float32(100)
    left_out = int(share * np.float32(count))
    return float(ordered_ms[max(count - 1 - left_out, 0)])


def batch_medians_ms(times_ms: NDArray[np.float64]) -> tuple[float, ...]:
    """Returns the median of each of up to ``MOST_BATCHES`` stretches of nearly equal size.

    Neighbouring calls resemble each other; stretches of many calls hardly do, so that an
    interval may take them as independent (the method of batch means: Law, Simulation Modeling
    and Analysis, chapter 9).
    """
    batches = np.array_split(times_ms, min(MOST_BATCHES, len(times_ms)))
    return tuple(float(np.median(batch)) for batch in batches)
