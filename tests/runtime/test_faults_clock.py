"""A clock that steps back, far forward, or stands still."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import Budget, Reading, Sampler
from skipc.runtime.clock import Elapsed
from tests.runtime.faulty import ENERGY_MJ, HandMeter, Script, X, scripted

HOUR_MS = 3_600_000.0


class SteppedClock:
    """A clock that a test sets, and that calls move on."""

    def __init__(self):
        self.ns = 10**15
        self.steps_ms = []

    def now_ns(self):
        return self.ns

    def move_ms(self, duration_ms):
        self.ns += round(duration_ms * 1e6)


def stepped(budget=None, latency_ms=2.0, **options):
    """Returns an engine whose calls take as long as ``clock.steps_ms`` says, in turn."""
    clock = SteppedClock()

    def outputs(_name, inputs):
        clock.move_ms(clock.steps_ms.pop(0) if clock.steps_ms else latency_ms)
        return {"y": inputs["x"].mean(axis=1)}

    engine, _ = scripted(outputs, clock=clock, budget=budget, **options)
    return engine, clock


def _account(engine):
    return engine._control.state.account


def test_time_goes_on_from_where_it_was():
    at = Elapsed(10**18).at
    assert at(10**18) == 0.0
    assert at(10**18 + 2 * 10**9) == 2.0
    assert at(10**18 + 1_500_000_000) == 2.0
    assert at(10**18 + 2_500_000_000) == 2.5
    assert at(0) == 2.5
    assert at(10**9) == pytest.approx(3.5)
    assert at(10**18) == pytest.approx(10**9 + 2.5)


@given(st.lists(st.integers(0, 2**63)))
def test_time_never_goes_back(shown):
    at, last_s = Elapsed(2**62).at, 0.0
    for now_ns in shown:
        now_s = at(now_ns)
        assert last_s <= now_s < math.inf
        last_s = now_s


def test_a_call_in_which_the_clock_goes_back_teaches_nothing():
    engine, clock = stepped(Budget(latency_ms=7))
    with engine:
        before = engine._control.state.latency
        clock.steps_ms = [-HOUR_MS]
        assert engine(X) == 1.0
        assert engine.last.latency_ms == 0.0
        assert engine._control.state.latency == before
        engine(X)
        assert engine.last.time_s == pytest.approx(0.002)


def test_one_call_of_an_hour_hardly_moves_the_prediction():
    engine, clock = stepped(latency_ms=8.0)
    with engine:
        for _ in range(20):
            engine(X)
        before_ms = engine.stats().configurations[0].predicted_ms
        clock.steps_ms = [HOUR_MS]
        engine(X)
        assert engine.stats().configurations[0].predicted_ms < 1.2 * before_ms


@pytest.mark.parametrize("step_ms", [-HOUR_MS, 5000.0, HOUR_MS, 1e12])
@pytest.mark.parametrize(("where", "window_s"), [("between", 1.0), ("during", 0.1)])
def test_power_is_kept_after_a_step(step_ms, where, window_s):
    engine, clock = stepped(Budget(power_w=8.0, window_s=window_s))
    granted_mj, burst_mj = 8.0 * 5.0, 8000.0 * window_s

    def beyond_mj():
        engine(X)
        clock.move_ms(3.0)
        assert abs(_account(engine).power_mj) <= burst_mj
        return ENERGY_MJ[engine.last.configuration] - granted_mj

    with engine:
        for _ in range(500):
            beyond_mj()
        if where == "between":
            clock.move_ms(step_ms)
        else:
            clock.steps_ms = [step_ms]
            beyond_mj()
        owed_mj = worst_mj = 0.0
        for _ in range(2000):
            owed_mj += beyond_mj()
            worst_mj = max(worst_mj, owed_mj)
        # What the pause saved, at most a burst, and the correction of the pace.
        assert worst_mj <= 1.1 * burst_mj
        assert abs(sum(beyond_mj() for _ in range(1000))) <= 1000


def test_no_idle_time_is_counted_twice():
    engine, clock = stepped(Budget(energy_j=1000, horizon_s=36_000))
    with engine:
        for step_ms in (0, -HOUR_MS, HOUR_MS, -HOUR_MS, HOUR_MS):
            clock.move_ms(step_ms)
            engine(X)
        account = _account(engine)
        assert account.settled_s == pytest.approx(7200, rel=0.01)
        assert math.isfinite(account.battery_mj)


steps_ms = st.one_of(
    st.floats(-1e9, 1e9), st.sampled_from([0.0, 1.0, -1.0, 1e12, -1e12, 2.0, 5.0])
)


@given(st.lists(st.tuples(steps_ms, steps_ms), max_size=40))
def test_averages_stay_within_their_burst_whatever_the_clock_does(steps):
    budget = Budget(latency_ms=20, energy_mj=40, power_w=8, energy_j=100, horizon_s=1000)
    clock = SteppedClock()
    meter = HandMeter(clock)
    sampler = Sampler(meter, clock)

    def outputs(_name, inputs):
        clock.move_ms(during.pop())
        return {"y": inputs["x"].mean(axis=1)}

    during = []
    engine, _ = scripted(
        outputs, clock=clock, budget=budget, sampler=sampler, hang_ms=1e9, warm_up_runs=0
    )
    with engine:
        last_s = 0.0
        for before_ms, during_ms in steps:
            clock.move_ms(before_ms)
            during.append(during_ms)
            meter.energy_mj += 50.0
            sampler.poll()
            engine(X)
            account = _account(engine)
            assert abs(account.energy_mj) <= 32 * 40
            assert abs(account.power_mj) <= 8000 * 10
            assert math.isfinite(account.battery_mj)
            assert account.period_s >= 0
            assert engine.last.latency_ms >= 0
            assert engine.last.time_s >= last_s
            last_s = engine.last.time_s
        for entry in engine.stats().configurations:
            assert 0 < entry.predicted_ms < math.inf
            assert 0 < entry.energy_mj < math.inf


def test_the_meters_clock_may_step_too():
    clock = SteppedClock()
    meter = HandMeter(clock)
    sampler = Sampler(meter, clock)
    engine, _ = scripted(Script(), clock=clock, budget=Budget(energy_mj=40), sampler=sampler)
    with engine:
        for step in range(200):
            clock.move_ms(5.0)
            meter.energy_mj += 50.0
            sampler.latest = Reading(meter.energy_mj, clock.ns - (step % 3) * 10**12)
            engine(X)
        assert all(5 < entry.energy_mj < 200 for entry in engine.stats().configurations)
