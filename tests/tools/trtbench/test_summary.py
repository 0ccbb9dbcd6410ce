from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.tools.trtbench.results.summary import MOST_BATCHES, percentile_ms, summarize

TIMES = st.lists(st.floats(0.001, 1000), min_size=1, max_size=300)


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [
        # trtexec's own arithmetic: int((1 - p/100) * N) are left out, in single precision.
        (10, 90, 9),
        (10, 95, 10),
        (10, 99, 10),
        (20, 95, 19),
        (100, 90, 90),
        (100, 95, 95),
        (1000, 50, 500),
        (10, 0, 1),
        (10, 100, 10),
        (1, 0, 1),
        (1, 50, 1),
        (3, 50, 2),
        (4, 50, 2),
    ],
)
def test_percentiles_are_those_of_trtexec(count: int, percent: float, expected: float) -> None:
    assert percentile_ms(np.arange(1.0, count + 1), percent) == expected


@given(times=TIMES, percent=st.floats(0, 100))
def test_percentiles_are_values_that_occurred(times: list[float], percent: float) -> None:
    ordered = np.sort(np.array(times))
    found = percentile_ms(ordered, percent)
    assert found in times
    assert percentile_ms(ordered, 0) == ordered[0] <= found <= ordered[-1]
    assert percentile_ms(ordered, 100) == ordered[-1]
    # At least this share of the values is not above it.
    assert (ordered <= found).mean() >= percent / 100 - 1e-5


@given(times=TIMES, average_runs=st.integers(1, 20))
def test_summaries_are_in_order(times: list[float], average_runs: int) -> None:
    found = summarize(np.array(times), (50.0, 90.0), average_runs)
    assert found.runs == len(times)
    slack = 1 + 1e-9
    assert found.min_ms <= found.median_ms <= found.max_ms
    assert found.min_ms <= found.lowest_average_ms * slack
    assert found.lowest_average_ms <= found.highest_average_ms <= found.max_ms * slack
    assert found.throughput_per_s * found.mean_ms == pytest.approx(1000)
    assert len(found.batch_medians_ms) == min(MOST_BATCHES, len(times))


def test_summary_of_known_values() -> None:
    found = summarize(np.array([4.0, 2.0, 6.0, 8.0, 100.0]), (0.0, 50.0, 100.0), 2)
    assert (found.min_ms, found.max_ms, found.mean_ms, found.median_ms) == (2, 100, 24, 6)
    assert [p.ms for p in found.percentiles] == [2, 6, 100]
    assert (found.lowest_average_ms, found.highest_average_ms) == (3, 7)
    assert found.total_ms == 120
    assert found.throughput_per_s == pytest.approx(5 / 0.120)
    assert found.variation == pytest.approx(np.std([4, 2, 6, 8, 100]) / 24)
    assert found.batch_medians_ms == (4, 2, 6, 8, 100)


def test_the_median_lies_between_two_middle_values() -> None:
    assert summarize(np.array([1.0, 2.0, 4.0, 9.0]), (), 10).median_ms == 3


def test_fewer_calls_than_are_averaged_make_one_average() -> None:
    found = summarize(np.array([1.0, 3.0]), (), 10)
    assert (found.lowest_average_ms, found.highest_average_ms) == (2, 2)


def test_batches_cover_all_calls_in_order() -> None:
    found = summarize(np.arange(1.0, 301.0), (), 10)
    assert found.batch_medians_ms[0] == 5.5
    assert found.batch_medians_ms[-1] == 295.5
