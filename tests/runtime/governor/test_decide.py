from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import Budget, ChoiceError, OperatingPoint, decide
from skipc.runtime.governor import after_choice, first_state
from skipc.runtime.governor.decision import Ceiling
from skipc.runtime.governor.latency import observe, predict_ms
from skipc.runtime.governor.stalls import kept_share
from tests.runtime.governor.families import FAMILY, FAST, FULL, families, latencies_ms

START = first_state(FAMILY)


def _choice(latency_ms, state=START, points=FAMILY, **options):
    return decide(points, Budget(latency_ms=latency_ms, quantile=0.95), state, **options)


@pytest.mark.parametrize(
    ("latency_ms", "expected"),
    [
        (None, "full"),
        (10.01, "full"),
        (9.99, "mid"),
        (6.01, "mid"),
        (5.0, "fast"),
        (3.01, "fast"),
    ],
)
def test_the_most_accurate_that_fits_runs(latency_ms, expected):
    decision = _choice(latency_ms)
    assert decision.configuration == expected
    assert decision.feasible


def test_the_quantile_decides_how_sure_that_is():
    by_quantile = {
        quantile: decide(FAMILY, Budget(latency_ms=9.5, quantile=quantile), START)
        for quantile in (0.5, 0.95, 0.99)
    }
    assert [d.configuration for d in by_quantile.values()] == ["full", "mid", "mid"]


def test_the_fastest_runs_when_nothing_fits():
    decision = _choice(1.0)
    assert (decision.configuration, decision.feasible) == ("fast", False)
    assert decision.binding == "latency"
    assert decision.predicted_ms == pytest.approx(3.0)
    assert decision.reason == (
        "nothing fits 1 ms as surely as asked for; 'fast' comes closest: 2 ms is typical, 3 ms"
        " predicted."
    )


def test_a_deadline_takes_the_place_of_the_budget():
    assert _choice(100, deadline_ms=7).configuration == "mid"
    assert _choice(4, deadline_ms=100).configuration == "full"
    assert _choice(None, deadline_ms=4).configuration == "fast"


def test_reasons_are_readable():
    assert _choice(7).reason == (
        "'mid' is the best of the 2 of 3 that fit 7 ms: 6 ms predicted."
    )
    assert _choice(None).reason == (
        "'full' is the best configuration, and no budget is in its way: 10 ms predicted."
    )
    assert _choice(7, pinned="full").reason == "'full' is pinned: 10 ms predicted."


def test_what_binds_is_named():
    assert _choice(7).binding == "latency"
    assert _choice(100).binding == ""


def test_what_is_pinned_runs_and_says_whether_it_fits():
    assert _choice(7, pinned="full").configuration == "full"
    assert not _choice(7, pinned="full").feasible
    assert _choice(7, pinned="fast").feasible


def test_the_cheaper_of_equally_accurate_ones_runs():
    slow = OperatingPoint("slow", 0.9, 5.0, 5.0)
    quick = OperatingPoint("quick", 0.9, 4.0, 4.0)
    points = (slow, quick)
    state = first_state(points)
    assert _choice(9, state, points).configuration == "quick"
    assert _choice(None, state, points).configuration == "quick"


def test_the_more_accurate_of_equally_fast_ones_runs_when_nothing_fits():
    points = (OperatingPoint("a", 0.8, 5.0, 5.0), OperatingPoint("b", 0.9, 5.0, 5.0))
    assert _choice(1, first_state(points), points).configuration == "b"


def test_one_configuration_is_enough():
    points = (FAST,)
    assert _choice(9, first_state(points), points).feasible
    assert not _choice(1, first_state(points), points).feasible


def test_what_is_below_the_floor_never_runs():
    budget = Budget(latency_ms=4, quantile=0.95, min_accuracy=0.92)
    decision = decide(FAMILY, budget, START)
    assert (decision.configuration, decision.feasible) == ("mid", False)
    alone = decide((FAST,), budget, START)
    assert (alone.configuration, alone.feasible, alone.binding) == ("fast", False, "accuracy")
    assert "nothing reaches the accuracy 0.92" in alone.reason


def _learnt(state, point, latency_ms, calls=10):
    latency = state.latency
    for _ in range(calls):
        latency = observe(point, latency, latency_ms)
    return state._replace(latency=latency)


def test_no_configuration_starves_after_a_slow_down_ends():
    state = _learnt(START, FULL, 80.0)
    assert _choice(15.0, state).configuration == "fast"
    assert _choice(15.0, _learnt(state, FAST, 2.0, 40)).configuration == "full"


class _Run:
    """Decisions under one latency budget, as the clock and the slow-down are set by hand."""

    def __init__(self, latency_ms):
        self.budget = Budget(latency_ms=latency_ms, quantile=0.95)
        self.state = START
        self.now_s = 0.0

    def at(self, slowdown, now_s):
        self.now_s = now_s
        latency = self.state.latency._replace(log_slowdown=slowdown - 1)
        self.state = self.state._replace(latency=latency)
        decision = decide(FAMILY, self.budget, self.state, now_s)
        self.state = after_choice(self.state, self.budget, decision, now_s)
        return decision.configuration


def test_down_at_once_and_up_after_a_dwell_with_a_margin():
    run = _Run(11.0)
    assert run.at(1.0, 0.0) == "full"
    assert run.at(1.2, 1.0) == "mid"
    assert run.at(1.0, 1.1) == "mid"  # too soon
    assert run.at(1.09, 2.0) == "mid"  # fits, but by less than the margin
    assert run.at(1.0, 2.0) == "full"


def test_what_waits_is_said():
    run = _Run(11.0)
    run.at(1.0, 0.0)
    run.at(1.2, 1.0)
    state = run.state._replace(latency=START.latency)
    decision = decide(FAMILY, run.budget, state, 1.1)
    assert (decision.configuration, decision.waiting) == ("mid", 1)
    assert decision.binding == "latency"
    assert decision.reason == (
        "'mid' is the best of the 3 of 3 that fit 11 ms, but for 1 that must fit for a while"
        " longer: 6 ms predicted."
    )
    assert decide(FAMILY, run.budget, state, 9.0).waiting == 0


def test_what_is_faster_and_more_accurate_does_not_wait():
    points = (
        OperatingPoint("full", 0.99, 9.0, 9.0),
        OperatingPoint("good", 0.95, 4.0, 4.0),
        OperatingPoint("bad", 0.90, 4.1, 4.1),
    )
    budget = Budget(latency_ms=20)
    ceiling = Ceiling(20.0, 0.90, climb_from_s=1.0)
    state = first_state(points)._replace(ceiling=ceiling)
    decision = decide(points, budget, state, 0.0)
    assert (decision.configuration, decision.waiting) == ("good", 1)


def test_what_keeps_falling_back_waits_longer_each_time():
    run = _Run(11.0)
    run.at(1.0, 0.0)
    now_s, waits_s = 0.0, []
    for _ in range(6):
        now_s += 0.001
        assert run.at(1.2, now_s) == "mid"
        fell_s = now_s
        while run.at(1.0, now_s) == "mid":
            now_s += 0.05
        waits_s.append(now_s - fell_s)
    assert waits_s == sorted(waits_s)
    assert waits_s[-1] > 10 * waits_s[0]
    now_s += 1000
    assert run.at(1.0, now_s) == "full"
    assert run.at(1.2, now_s + 1) == "mid"  # that lasted: the wait is short again
    assert run.at(1.0, now_s + 1.6) == "full"


def test_a_new_budget_takes_effect_at_once():
    run = _Run(11.0)
    run.at(1.0, 0.0)
    run.at(1.2, 0.1)
    assert run.at(1.0, 0.2) == "mid"
    run.budget = Budget(latency_ms=12.0, quantile=0.95)
    assert run.at(1.0, 0.3) == "full"


def test_deadlines_of_single_calls_leave_no_trace():
    run = _Run(11.0)
    run.at(1.0, 0.0)
    late = decide(FAMILY, run.budget, run.state, 0.1, deadline_ms=3.5)
    assert late.configuration == "fast"
    assert after_choice(run.state, run.budget, late, 0.1, deadline_ms=3.5) is run.state
    assert run.at(1.0, 0.2) == "full"


@st.composite
def _learning(draw):
    points = draw(families)
    state = first_state(points)
    latency = state.latency._replace(
        log_slowdown=draw(st.floats(-5, 5)),
        log_residuals={p.configuration: draw(st.floats(-1.5, 1.5)) for p in points},
        tail=draw(st.floats(-1, 1)),
    )
    return points, state._replace(latency=latency)


@given(_learning(), latencies_ms)
def test_feasible_exactly_when_something_fits(family, limit_ms):
    points, state = family
    budget = Budget(latency_ms=limit_ms)
    predicted_ms = {
        p.configuration: predict_ms(p, state.latency, budget.deviations) for p in points
    }
    decision = decide(points, budget, state)
    fits = [p for p in points if predicted_ms[p.configuration] <= limit_ms * (1 - 1e-9)]
    nearly = [p for p in points if predicted_ms[p.configuration] <= limit_ms * (1 + 1e-9)]
    assert bool(fits) <= decision.feasible <= bool(nearly)
    chosen = next(p for p in points if p.configuration == decision.configuration)
    assert decision.predicted_ms == predicted_ms[chosen.configuration]
    if decision.feasible:
        assert chosen in nearly
        assert chosen.rank >= max((p.rank for p in fits), default=0)
    else:
        typical_ms = {p.configuration: predict_ms(p, state.latency, 0.0) for p in points}
        scatter, stalls = state.latency.scatter, state.latency.stalls
        kept = [
            kept_share(p, typical_ms[p.configuration], scatter, stalls, limit_ms)
            for p in points
        ]
        if max(kept) < 1e-3:
            assert typical_ms[chosen.configuration] <= min(typical_ms.values()) * (1 + 1e-9)
        else:
            own = kept[points.index(chosen)]
            assert own >= 0.99 * max(kept) * (1 - 1e-9)
            as_many = [
                p.rank for p, share in zip(points, kept, strict=True) if share >= max(kept)
            ]
            assert chosen.rank >= max(as_many)


@given(_learning(), latencies_ms, latencies_ms)
def test_a_larger_budget_is_no_less_accurate(family, one_ms, other_ms):
    points, state = family
    ranks = {p.configuration: p.rank for p in points}
    small = decide(points, Budget(latency_ms=min(one_ms, other_ms)), state)
    large = decide(points, Budget(latency_ms=max(one_ms, other_ms)), state)
    if small.feasible:
        assert large.feasible
        assert ranks[large.configuration] >= ranks[small.configuration]


NOT_FINITE = (math.nan, math.inf, -math.inf, "1", True, None, pytest.param(10**400, id="huge"))


@pytest.mark.parametrize("name", ["rank", "p50_ms", "p95_ms", "energy_mj"])
@pytest.mark.parametrize("value", NOT_FINITE)
def test_an_operating_point_is_of_finite_numbers(name, value):
    numbers = {"rank": 0.9, "p50_ms": 1.0, "p95_ms": 1.0, name: value}
    with pytest.raises(ChoiceError, match=f"operating point 'a': {name}=.*, expected "):
        OperatingPoint("a", **numbers)


@pytest.mark.parametrize(
    "wrong",
    [{"p50_ms": 0}, {"p95_ms": -1.0}, {"p99_ms": 0.0}, {"energy_mj": -1e-9}, {"p50_ms": 2e15}],
)
def test_an_operating_point_takes_time_and_gains_no_energy(wrong):
    numbers = {"rank": -3, "p50_ms": np.float32(1.0), "p95_ms": 1.0, **wrong}
    with pytest.raises(ChoiceError, match=r"expected milli\w+ (above|from) 0.*1e\+15"):
        OperatingPoint("a", **numbers)
