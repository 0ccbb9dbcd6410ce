from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from skipc.tools.trtbench.latency import (
    MOST_BATCHES,
    RatioInterval,
    batch_medians_ms,
    independent_ratio,
    paired_ratio,
    percentile_ms,
    student_factor,
    summarize,
)

REPEATS = 500


@pytest.mark.parametrize("freedom", range(1, 31))
def test_factors_are_students(freedom: int) -> None:
    assert student_factor(freedom) == pytest.approx(t.ppf(0.975, freedom), abs=6e-4)


def test_factors_err_on_the_wide_side() -> None:
    assert student_factor(4.9) == student_factor(4)
    assert student_factor(1000) == student_factor(30)


def _holds(found: RatioInterval, true: float) -> bool:
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.ratio <= found.high
    return found.low <= true <= found.high


def test_paired_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Single calls with outliers and a drift that all configurations share."""
    rng = np.random.default_rng(7)
    hits, widths = 0, []
    for _ in range(REPEATS):
        drift = np.exp(np.cumsum(rng.normal(0, 0.01, 600)))
        noise = rng.lognormal(0, 0.03, (2, 600)) * (1 + (rng.random((2, 600)) < 0.02))
        fast, full = (batch_medians_ms(row) for row in noise * drift * [[0.7], [1.0]])
        found = paired_ratio(fast, full)
        hits += _holds(found, 0.7)
        widths.append((found.high or 0) - (found.low or 0))
    assert 0.93 <= hits / REPEATS <= 0.97
    assert np.mean(widths) < 0.01


def test_paired_intervals_stand_correlated_calls() -> None:
    """Each call's noise resembles the one's before: batches of 100 calls hardly do."""
    rng = np.random.default_rng(8)
    noises = rng.normal(0, 0.03, (300, 2, 3000))
    for index in range(1, 3000):
        noises[..., index] += 0.7 * noises[..., index - 1]
    hits = 0
    for noise in noises:
        slow, full = (batch_medians_ms(row) for row in np.exp(noise) * [[1.1], [1.0]])
        hits += _holds(paired_ratio(slow, full), 1.1)
    assert 0.91 <= hits / 300 <= 0.98


def test_independent_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(9)
    hits = 0
    for _ in range(REPEATS):
        new = 1.25 * rng.lognormal(0, 0.08, 30)
        old = rng.lognormal(0, 0.02, 12)
        hits += _holds(independent_ratio(new, old), 1.25)
    assert 0.93 <= hits / REPEATS <= 0.97


def test_no_difference_is_claimed_seldom_where_there_is_none() -> None:
    rng = np.random.default_rng(10)
    told = [
        independent_ratio(rng.lognormal(0, 0.05, 30), rng.lognormal(0, 0.05, 30)).verdict()
        for _ in range(REPEATS)
    ]
    assert told.count("slower") / REPEATS < 0.04


@pytest.mark.parametrize("ratio", [paired_ratio, independent_ratio])
def test_equal_and_exact_values(ratio) -> None:
    same = ratio([2.0, 3.0, 4.0], [2.0, 3.0, 4.0])
    assert same.ratio == pytest.approx(1)
    assert same.verdict() == "no difference shown"
    exact = ratio([3.0, 3.0], [2.0, 2.0])
    assert (exact.low, exact.high) == (exact.ratio, exact.ratio)
    assert exact.ratio == pytest.approx(1.5)
    assert exact.verdict() == "slower"
    assert ratio([1.0, 1.0], [2.0, 2.0]).verdict() == "faster"


@pytest.mark.parametrize("ratio", [paired_ratio, independent_ratio])
def test_one_value_tells_a_ratio_and_nothing_else(ratio) -> None:
    found = ratio([3.0], [2.0])
    assert found.ratio == pytest.approx(1.5)
    assert (found.low, found.high) == (None, None)
    assert found.verdict() == "too few runs to tell"


def test_an_interval_holds_the_quotient_of_the_medians_shown() -> None:
    interval = RatioInterval(1.85, 1.6, 2.1)
    assert interval.covering(2.89) == RatioInterval(1.85, 1.6, 2.89)
    assert interval.covering(1.9) == interval
    assert RatioInterval(1.85, None, None).covering(3.0) == RatioInterval(1.85, None, None)


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
    assert found.percentiles_ms == {"0": 2, "50": 6, "100": 100}
    assert (found.lowest_average_ms, found.highest_average_ms) == (3, 7)
    assert found.total_ms == 120
    assert found.throughput_per_s == pytest.approx(5 / 0.120)
    assert found.coefficient_of_variation == pytest.approx(np.std([4, 2, 6, 8, 100]) / 24)
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
