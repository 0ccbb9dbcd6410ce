from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import Budget, Estimate, OperatingPoint, decide, observe
from skipc.runtime.governor import (
    RESIDUAL_LIMIT,
    SLOWDOWN_LIMIT,
    estimate_after,
    first_estimate,
    predict_ms,
)

FULL = OperatingPoint("full", 0.95, 8.0, 10.0)
MID = OperatingPoint("mid", 0.93, 5.0, 6.0)
FAST = OperatingPoint("fast", 0.90, 2.0, 3.0)
FAMILY = (FULL, MID, FAST)
START = first_estimate(FAMILY)


def _choice(latency_ms, estimate=START, points=FAMILY, pinned=None):
    return decide(points, Budget(latency_ms=latency_ms), estimate, pinned)


@pytest.mark.parametrize(
    ("latency_ms", "expected"),
    [
        (None, "full"),
        (10.0, "full"),
        (9.99, "mid"),
        (6.0, "mid"),
        (5.0, "fast"),
        (3.0, "fast"),
    ],
)
def test_decide_takes_the_most_accurate_that_fits(latency_ms, expected):
    decision = _choice(latency_ms)
    assert decision.configuration == expected
    assert decision.feasible


def test_decide_takes_the_fastest_when_nothing_fits():
    decision = _choice(1.0)
    assert (decision.configuration, decision.feasible) == ("fast", False)
    assert decision.predicted_ms == 3.0
    assert decision.reason == "nothing fits 1 ms; 'fast' is predicted to be the fastest, 3 ms."


def test_decide_gives_a_readable_reason():
    assert _choice(7).reason == (
        "'mid' is the best of the 2 of 3 that fit 7 ms: 6 ms predicted."
    )
    assert "no latency budget" in _choice(None).reason
    assert _choice(7, pinned="full").reason == "'full' is pinned: 10 ms predicted."


def test_decide_runs_what_is_pinned_and_says_whether_it_fits():
    assert _choice(7, pinned="full").configuration == "full"
    assert not _choice(7, pinned="full").feasible
    assert _choice(7, pinned="fast").feasible


def test_decide_prefers_the_cheaper_of_equally_accurate_ones():
    slow = OperatingPoint("slow", 0.9, 5.0, 5.0)
    quick = OperatingPoint("quick", 0.9, 4.0, 4.0)
    points = (slow, quick)
    estimate = first_estimate(points)
    assert _choice(9, estimate, points).configuration == "quick"
    assert _choice(None, estimate, points).configuration == "quick"


def test_decide_prefers_the_more_accurate_of_equally_fast_ones_when_nothing_fits():
    points = (OperatingPoint("a", 0.8, 5.0, 5.0), OperatingPoint("b", 0.9, 5.0, 5.0))
    assert _choice(1, first_estimate(points), points).configuration == "b"


def test_decide_works_with_one_configuration():
    points = (FAST,)
    assert _choice(1, first_estimate(points), points).configuration == "fast"


def _after(estimate, *calls):
    for point, latency_ms in calls:
        estimate = observe(point, estimate, latency_ms)
    return estimate


def test_observe_of_what_the_table_says_changes_nothing():
    estimate = _after(START, *[(FULL, 8.0)] * 5, *[(FAST, 2.0)] * 5)
    assert estimate.slowdown == pytest.approx(1.0)
    assert estimate.residuals == pytest.approx(START.residuals)


def test_observe_ignores_a_single_outlier():
    estimate = _after(START, (FULL, 8.0), (FULL, 800.0), (FULL, 8.0))
    assert predict_ms(FULL, estimate) == pytest.approx(10.0)


def test_observe_follows_a_lasting_slow_down_within_a_few_calls():
    estimate = _after(START, *[(FULL, 32.0)] * 6)
    assert predict_ms(FULL, estimate) == pytest.approx(40.0, rel=0.15)


def test_observe_moves_the_other_configurations_too():
    estimate = _after(START, *[(FULL, 16.0)] * 8)
    assert predict_ms(FAST, estimate) == pytest.approx(6.0, rel=0.05)
    assert _choice(5.0, estimate).feasible is False


def test_observe_recovers_on_another_configuration():
    estimate = _after(START, *[(FULL, 32.0)] * 8, *[(FAST, 2.0)] * 8)
    assert predict_ms(FULL, estimate) == pytest.approx(10.0, rel=0.1)


def test_observe_learns_what_one_configuration_alone_deviates_by():
    estimate = START
    for _ in range(30):  # fast is twice as slow as tabled, mid is as tabled
        estimate = _after(estimate, *[(MID, 5.0)] * 4, *[(FAST, 4.0)] * 4)
    estimate = _after(estimate, *[(MID, 5.0)] * 6)
    assert predict_ms(MID, estimate) == pytest.approx(6.0, rel=0.1)
    assert predict_ms(FAST, estimate) == pytest.approx(6.0, rel=0.1)


def test_observe_keeps_residuals_when_episodes_of_slow_down_end_elsewhere():
    estimate = START
    for _ in range(50):
        calls = [(FULL, 8.0)] * 6 + [(FULL, 32.0)] * 6 + [(FAST, 8.0)] * 6 + [(FAST, 2.0)] * 6
        estimate = _after(estimate, *calls)
    assert max(estimate.residuals.values()) < 1.2
    assert min(estimate.residuals.values()) > 0.8


def test_first_call_sets_the_scale_when_there_is_no_table():
    points = tuple(
        OperatingPoint(p.configuration, p.rank, p.p50_ms, p.p50_ms, "macs") for p in FAMILY
    )
    estimate = observe(points[0], first_estimate(points), 800.0)
    assert predict_ms(points[2], estimate) == pytest.approx(200.0)


def test_estimate_after_uses_the_warm_up_only_without_a_table():
    warm_up_ms = {"full": 80.0, "mid": 50.0, "fast": 20.0}
    assert estimate_after(FAMILY, warm_up_ms) == START
    points = tuple(
        OperatingPoint(p.configuration, p.rank, p.p50_ms, p.p50_ms, "macs") for p in FAMILY
    )
    assert estimate_after(points, warm_up_ms).slowdown == pytest.approx(10.0)
    assert estimate_after(points, {}) == first_estimate(points)


def test_no_configuration_starves_after_a_slow_down_ends():
    estimate = _after(START, *[(FULL, 80.0)] * 10)
    assert _choice(12.0, estimate).configuration == "fast"
    estimate = _after(estimate, *[(FAST, 2.0)] * 10)
    assert _choice(12.0, estimate).configuration == "full"


latencies = st.floats(1e-3, 1e4)
points_strategy = st.lists(
    st.tuples(st.floats(0, 1), latencies, latencies), min_size=1, max_size=6
).map(
    lambda rows: tuple(
        OperatingPoint(f"c{index}", rank, p50_ms, p95_ms)
        for index, (rank, p50_ms, p95_ms) in enumerate(rows)
    )
)


@st.composite
def families(draw):
    points = draw(points_strategy)
    residuals = {p.configuration: draw(st.floats(0.2, 5)) for p in points}
    return points, Estimate(draw(st.floats(1e-3, 1e3)), residuals, (1.0, 1.0))


@given(families(), latencies)
def test_decide_is_feasible_exactly_when_something_fits(family, limit_ms):
    points, estimate = family
    decision = decide(points, Budget(latency_ms=limit_ms), estimate)
    fits = [p for p in points if predict_ms(p, estimate) <= limit_ms]
    assert decision.feasible == bool(fits)
    chosen = next(p for p in points if p.configuration == decision.configuration)
    assert decision.predicted_ms == predict_ms(chosen, estimate)
    if fits:
        assert chosen in fits
        assert chosen.rank == max(p.rank for p in fits)
    else:
        assert decision.predicted_ms == min(predict_ms(p, estimate) for p in points)


@given(families(), latencies, latencies)
def test_decide_is_no_less_accurate_for_a_larger_budget(family, one_ms, other_ms):
    points, estimate = family
    ranks = {p.configuration: p.rank for p in points}
    small = decide(points, Budget(latency_ms=min(one_ms, other_ms)), estimate)
    large = decide(points, Budget(latency_ms=max(one_ms, other_ms)), estimate)
    if small.feasible:
        assert large.feasible
        assert ranks[large.configuration] >= ranks[small.configuration]


@given(
    points_strategy,
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, allow_nan=False)), max_size=30),
)
def test_observe_keeps_factors_finite_and_positive(points, calls):
    estimate = first_estimate(points)
    for index, latency_ms in calls:
        estimate = observe(points[index % len(points)], estimate, latency_ms)
        factors = [estimate.slowdown, *estimate.residuals.values()]
        assert all(math.isfinite(factor) and factor > 0 for factor in factors)
        assert 1 / SLOWDOWN_LIMIT <= estimate.slowdown <= SLOWDOWN_LIMIT
        assert max(estimate.residuals.values()) <= RESIDUAL_LIMIT


@given(points_strategy, st.floats(1e-2, 1e2))
def test_observe_finds_any_lasting_slow_down(points, factor):
    estimate = first_estimate(points)
    for _ in range(20):
        estimate = observe(points[0], estimate, points[0].p50_ms * factor)
    for point in points:
        assert predict_ms(point, estimate) == pytest.approx(point.p95_ms * factor, rel=1e-3)
