from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import Budget
from skipc.runtime.governor.latency import (
    RESIDUAL_LIMIT,
    SLOWDOWN_LIMIT,
    first_estimate,
    observe,
    predict_ms,
)
from skipc.runtime.governor.operating_point import DEVIATIONS_AT_95, DEVIATIONS_AT_99
from tests.runtime.governor.families import FAMILY, FAST, FULL, MID, UNTABLED, families

START = first_estimate(FAMILY)


def _after(estimate, *calls):
    for point, latency_ms in calls:
        estimate = observe(point, estimate, latency_ms)
    return estimate


def _p95(point, estimate):
    return predict_ms(point, estimate, DEVIATIONS_AT_95)


@pytest.mark.parametrize(("quantile", "expected_ms"), [(0.5, 8), (0.95, 10), (0.99, 12)])
def test_the_first_prediction_is_the_table(quantile, expected_ms):
    deviations = Budget(quantile=quantile).deviations
    assert predict_ms(FULL, START, deviations) == pytest.approx(expected_ms)


def test_between_and_beyond_the_tables_quantiles_predictions_grow():
    quantiles = [0.5, 0.6, 0.8, 0.95, 0.97, 0.99, 0.995, 0.9999]
    found = [predict_ms(FULL, START, Budget(quantile=q).deviations) for q in quantiles]
    assert found == sorted(found)
    assert len(set(found)) == len(found)


def test_calls_as_tabled_change_no_typical_latency():
    estimate = _after(START, *[(FULL, 8.0)] * 5, *[(FAST, 2.0)] * 5)
    assert estimate.slowdown == pytest.approx(1.0)
    assert estimate.log_residuals == pytest.approx(START.log_residuals)


def test_a_single_outlier_hardly_counts():
    estimate = _after(START, (FULL, 8.0), (FULL, 800.0), (FULL, 8.0))
    assert estimate.slowdown == pytest.approx(1.0, rel=0.1)
    assert _p95(FULL, estimate) == pytest.approx(10.0, rel=0.15)


def test_a_lasting_slow_down_counts_from_the_second_call():
    once = _after(START, (FULL, 32.0))
    assert once.slowdown < 1.2
    twice = _after(once, (FULL, 32.0))
    assert twice.slowdown == pytest.approx(4.0)


def test_a_slow_down_moves_the_other_configurations_too():
    estimate = _after(START, *[(FULL, 16.0)] * 8)
    assert predict_ms(FAST, estimate, 0.0) == pytest.approx(4.0, rel=0.02)


def test_it_recovers_on_another_configuration():
    estimate = _after(START, *[(FULL, 32.0)] * 8, *[(FAST, 2.0)] * 8)
    assert predict_ms(FULL, estimate, 0.0) == pytest.approx(8.0, rel=0.1)


def test_what_one_configuration_alone_deviates_by_is_learnt():
    estimate = START
    for _ in range(30):  # fast is twice as slow as tabled, mid is as tabled
        estimate = _after(estimate, *[(MID, 5.0)] * 4, *[(FAST, 4.0)] * 4)
    estimate = _after(estimate, *[(MID, 5.0)] * 6)
    assert predict_ms(MID, estimate, 0.0) == pytest.approx(5.0, rel=0.1)
    assert predict_ms(FAST, estimate, 0.0) == pytest.approx(4.0, rel=0.1)


def test_residuals_stay_when_episodes_of_slow_down_end_elsewhere():
    estimate = START
    for _ in range(50):
        calls = [(FULL, 8.0)] * 6 + [(FULL, 32.0)] * 6 + [(FAST, 8.0)] * 6 + [(FAST, 2.0)] * 6
        estimate = _after(estimate, *calls)
    factors = [estimate.residual(point.configuration) for point in FAMILY]
    assert max(factors) < 1.2
    assert min(factors) > 0.8


def test_the_first_call_sets_the_scale_when_there_is_no_table():
    estimate = observe(UNTABLED[0], first_estimate(UNTABLED), 800.0)
    assert predict_ms(UNTABLED[2], estimate, 0.0) == pytest.approx(200.0)


def test_the_warm_up_counts_only_without_a_table():
    warm_up_ms = {"full": 80.0, "mid": 50.0, "fast": 20.0}
    assert first_estimate(FAMILY, warm_up_ms) == START
    assert first_estimate(UNTABLED, warm_up_ms).slowdown == pytest.approx(10.0)
    assert first_estimate(UNTABLED, {}) == first_estimate(UNTABLED)


@pytest.mark.parametrize("quantile", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3])
def test_predictions_hold_for_the_share_of_calls_that_was_asked_for(quantile, noise):
    deviations = Budget(quantile=quantile).deviations
    random = np.random.default_rng(7)
    estimate, above, logs = START, 0, []
    for call, latency_ms in enumerate(8.0 * np.exp(random.normal(0, noise, 12_000))):
        predicted_ms = predict_ms(FULL, estimate, deviations)
        if call >= 2000:
            above += latency_ms > predicted_ms
            logs.append(math.log(predicted_ms))
        estimate = observe(FULL, estimate, latency_ms, quantile, deviations)
    assert above / 10_000 == pytest.approx(1 - quantile, rel=0.15)
    assert np.mean(logs) == pytest.approx(math.log(8.0) + noise * deviations, abs=0.2 * noise)
    assert np.std(logs) < 0.5 * noise


@given(
    families,
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, allow_nan=False)), max_size=30),
)
def test_estimates_stay_finite_and_bounded_whatever_is_measured(points, calls):
    estimate = first_estimate(points)
    for index, latency_ms in calls:
        estimate = observe(points[index % len(points)], estimate, latency_ms)
        assert 1 / SLOWDOWN_LIMIT * 0.999 <= estimate.slowdown <= SLOWDOWN_LIMIT * 1.001
        for point in points:
            assert estimate.residual(point.configuration) <= RESIDUAL_LIMIT * 1.001
            assert 0 < predict_ms(point, estimate, DEVIATIONS_AT_99) < math.inf


@given(families, st.floats(1e-2, 1e2))
def test_any_lasting_slow_down_is_found(points, factor):
    estimate = first_estimate(points)
    for _ in range(300):
        estimate = observe(points[0], estimate, points[0].p50_ms * factor)
    for point in points:
        expected_ms = point.p50_ms * factor
        assert predict_ms(point, estimate, 0.0) == pytest.approx(expected_ms, rel=0.02)


@pytest.mark.parametrize("quantile", [0.5, 0.51, 0.6])
def test_what_is_learnt_at_a_low_quantile_does_not_spoil_a_high_one(quantile):
    low, high = Budget(quantile=quantile).deviations, Budget(quantile=0.99).deviations
    random = np.random.default_rng(3)
    estimate = START
    for latency_ms in 8.0 * np.exp(random.normal(0, 0.1, 5000)):
        estimate = observe(FULL, estimate, latency_ms, quantile, low)
    true_ms = 8.0 * math.exp(0.1 * high)
    assert predict_ms(FULL, estimate, high) == pytest.approx(true_ms, rel=0.25)
