from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from skipc.tools.trtbench.results.interval import (
    RatioInterval,
    independent_ratio,
    paired_ratio,
    student_factor,
)
from skipc.tools.trtbench.results.summary import batch_medians_ms

REPEATS = 1000


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
    hits = 0
    for _ in range(300):
        noise = rng.normal(0, 0.03, (2, 3000))
        for index in range(1, 3000):
            noise[:, index] += 0.7 * noise[:, index - 1]
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
        independent_ratio(rng.lognormal(0, 0.05, 30), rng.lognormal(0, 0.05, 30)).slower
        for _ in range(REPEATS)
    ]
    assert sum(told) / REPEATS < 0.04


@pytest.mark.parametrize("ratio", [paired_ratio, independent_ratio])
def test_equal_and_exact_values(ratio) -> None:
    same = ratio([2.0, 3.0, 4.0], [2.0, 3.0, 4.0])
    assert same.ratio == pytest.approx(1)
    assert same.verdict == "no difference shown"
    exact = ratio([3.0, 3.0], [2.0, 2.0])
    assert (exact.low, exact.high) == (exact.ratio, exact.ratio)
    assert exact.ratio == pytest.approx(1.5)
    assert exact.verdict == "slower"
    assert ratio([1.0, 1.0], [2.0, 2.0]).verdict == "faster"


@pytest.mark.parametrize("ratio", [paired_ratio, independent_ratio])
def test_one_value_tells_a_ratio_and_nothing_else(ratio) -> None:
    found = ratio([3.0], [2.0])
    assert found.ratio == pytest.approx(1.5)
    assert (found.low, found.high, found.slower, found.faster) == (None, None, False, False)
    assert found.verdict == "too few runs to tell"
