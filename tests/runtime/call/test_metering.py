"""A meter that stops, jumps, goes back, stands still, comes back, raises or is slow."""

from __future__ import annotations

import math
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import Budget, FakeClock, MeterError, Reading, Sampler
from skipc.runtime.call.metering import LOST_S, MOST_CHARGES, MOST_W, REPEAT_S, Metering
from skipc.runtime.governor import Spent
from tests.runtime.faulty import ENERGY_MJ, HandMeter, Script, X, scripted, texts


class Bench:
    """A metering over a meter that is moved by hand: 10 W, one call of 10 mJ per ms."""

    def __init__(self):
        self.clock = FakeClock()
        self.meter = HandMeter(self.clock)
        self.sampler = Sampler(self.meter, self.clock)
        self.metering = Metering(self.sampler)

    def now_s(self):
        return self.clock.now_ns() / 1e9

    def last_ms(self):
        """Returns the span of the last millisecond."""
        return self.now_s() - 0.001, self.now_s()

    def ended_interval(self):
        """Returns the interval that the latest reading ends."""
        return self.metering.ended_interval(self.now_s(), self.clock.now_ns())

    def step(self, energy_mj=10.0, expected_mj=10.0, advance_ms=1.0):
        """Lets a call run, reads the meter and returns the interval that this ends."""
        self.clock.advance_ms(advance_ms)
        self.meter.energy_mj += energy_mj
        self.metering.charge("full", expected_mj, self.last_ms())
        self.sampler.poll()
        return self.ended_interval()

    def settle(self, steps=4):
        """Gets the meter going."""
        for _ in range(steps):
            self.step()
        self.metering.take_notes()


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.sampler.close()


def test_the_first_reading_only_begins(bench):
    assert bench.step().measured_mj is None
    assert bench.metering.total_mj == 0.0
    interval = bench.step()
    assert interval.measured_mj == pytest.approx(10.0)
    assert interval.spent == Spent({"full": 10.0}, 0.0)
    assert bench.metering.total_mj == pytest.approx(10.0)


def test_idle_is_part_of_what_was_expected(bench):
    bench.settle()
    bench.metering.charge("", 3.0, bench.last_ms())
    assert bench.step().spent == Spent({"full": 10.0}, 3.0)


def test_what_a_reading_cuts_in_two_is_shared_by_both_intervals(bench):
    bench.settle()
    assert bench.step(50.0, 50.0).measured_mj is not None
    bench.clock.advance_ms(10)
    bench.meter.energy_mj += 40.0
    bench.sampler.poll()
    began_s = bench.now_s() - 0.004
    bench.clock.advance_ms(12)
    now_s = bench.now_s()
    bench.metering.charge("full", 160.0, (began_s, now_s))
    found = bench.ended_interval()
    assert found.spent.calls_mj == pytest.approx({"full": 40.0})
    assert found.measured_mj == pytest.approx(40.0)
    assert bench.step(130.0).spent.calls_mj == pytest.approx({"full": 130.0})


def test_a_call_that_took_no_time_belongs_to_the_interval_that_it_lies_in(bench):
    bench.settle()
    bench.clock.advance_ms(1)
    bench.meter.energy_mj += 10.0
    bench.metering.charge("full", 10.0, bench.last_ms())
    bench.sampler.poll()
    bench.clock.advance_ms(1)
    now_s = bench.now_s()
    bench.metering.charge("fast", 4.0, (now_s, now_s))
    found = bench.ended_interval()
    assert found.spent.calls_mj == pytest.approx({"full": 10.0})
    assert bench.step(14.0).spent.calls_mj == pytest.approx({"full": 10.0, "fast": 4.0})


def test_charges_without_readings_stay_few(bench):
    bench.settle()
    for _ in range(3 * MOST_CHARGES):
        bench.clock.advance_ms(1)
        bench.metering.charge("full", 1.0, bench.last_ms())
    assert len(bench.metering._charges) <= MOST_CHARGES
    found = bench.step(3.0 * MOST_CHARGES + 10.0)
    assert found.spent.calls_mj == pytest.approx({"full": 3.0 * MOST_CHARGES + 10.0})


def test_without_a_new_reading_there_is_no_interval(bench):
    bench.settle()
    bench.metering.charge("full", 10.0, bench.last_ms())
    assert bench.ended_interval() is None
    assert bench.step(20.0).spent == Spent({"full": 20.0}, 0.0)


def test_energy_below_the_resolution_is_waited_for(bench):
    bench.settle()
    assert bench.step(0.05, 0.05) is None
    interval = bench.step(0.06, 0.06)
    assert interval.measured_mj == pytest.approx(0.11)
    assert interval.spent.total_mj == pytest.approx(0.11)


def test_a_meter_that_goes_back_is_left_out_once_and_goes_on(bench):
    bench.settle()
    total_mj = bench.metering.total_mj
    bench.meter.energy_mj = 0.0
    assert bench.step(1.0).measured_mj is None
    assert bench.metering.take_notes() == [
        "the meter went back, as if it were started anew; this reading is left out."
    ]
    assert bench.step().measured_mj == pytest.approx(10.0)
    assert bench.metering.total_mj == pytest.approx(total_mj + 10.0)


def test_a_jump_is_left_out(bench):
    bench.settle()
    total_mj = bench.metering.total_mj
    assert bench.step(5_000.0).measured_mj is None
    assert bench.metering.take_notes() == [
        "the meter jumped by 5 J; this reading is left out."
    ]
    assert bench.step().measured_mj == pytest.approx(10.0)
    assert bench.metering.total_mj == pytest.approx(total_mj + 10.0)


def test_a_power_that_is_read_three_times_is_believed(bench):
    bench.settle()
    read = [bench.step(200.0).measured_mj for _ in range(4)]
    assert read == [None, None, pytest.approx(200.0), pytest.approx(200.0)]
    assert len(bench.metering.take_notes()) == 1


def test_what_no_machine_takes_is_never_believed(bench):
    bench.step()
    impossible_mj = 2 * MOST_W
    assert [bench.step(impossible_mj).measured_mj for _ in range(5)] == [None] * 5
    assert bench.step().measured_mj == pytest.approx(10.0)


@pytest.mark.parametrize("shown", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("steps", [0, 4])
def test_what_is_no_number_is_passed_over(bench, shown, steps):
    bench.settle(steps)
    total_mj, good_mj = bench.metering.total_mj, bench.meter.energy_mj
    bench.meter.energy_mj = shown
    for _ in range(3):
        interval = bench.step()
        assert interval is None or interval.measured_mj is None
    bench.meter.energy_mj = good_mj
    bench.step()
    interval = bench.step()
    assert interval.measured_mj == pytest.approx(10.0)
    assert math.isfinite(bench.metering.total_mj - total_mj)
    assert len(bench.metering.take_notes()) <= 2


def test_a_reading_that_is_not_later_is_left_out(bench):
    bench.settle()
    bench.sampler.latest = Reading(bench.meter.energy_mj + 10.0, bench.sampler.latest.time_ns)
    assert bench.ended_interval().measured_mj is None
    (note,) = bench.metering.take_notes()
    assert note == "the meter shows a time that is not later; this reading is left out."


def test_a_meter_that_stands_still_is_lost_and_left_out_once_when_it_is_back(bench):
    bench.settle()
    for _ in range(100):
        assert bench.step(0.0, advance_ms=50) is None
    assert bench.metering.lost
    (note,) = bench.metering.take_notes()
    assert note.startswith("the meter has said nothing new for 2.05 s; until it does")
    interval = bench.step(1000.0)
    assert (interval.measured_mj, interval.spent.total_mj) == (None, 1010.0)
    assert not bench.metering.lost
    assert bench.metering.take_notes() == ["the meter is back; this reading is left out."]
    assert bench.step().measured_mj == pytest.approx(10.0)


def test_a_meter_that_raises_is_lost_until_it_does_not(bench):
    bench.settle()
    bench.meter.error = MeterError("gone.")
    for _ in range(3):
        assert bench.step(0.0, advance_ms=1000 * LOST_S) is None
    assert bench.metering.lost
    bench.meter.error = None
    assert bench.step(10.0).measured_mj is None
    assert not bench.metering.lost


def test_a_meter_that_never_answers_is_lost(bench):
    bench.meter.error = MeterError("no.")
    for _ in range(3):
        bench.step(0.0, advance_ms=1000 * LOST_S)
    assert bench.metering.lost
    assert len(bench.metering.take_notes()) == 1
    bench.meter.error = None
    bench.step()
    bench.step()
    assert not bench.metering.lost
    assert bench.step().measured_mj == pytest.approx(10.0)


def test_a_coarse_meter_is_not_lost_while_little_is_taken():
    bench = Bench()
    bench.meter.resolution_mj = 100.0
    bench.metering = Metering(bench.sampler)
    bench.step(0.0, 0.0)
    measured = []
    for index in range(1, 101):  # 1 J in 10 s; the meter shows whole steps of 100 mJ
        step_mj = 100.0 if index % 10 == 0 else 0.0
        interval = bench.step(step_mj, 10.0, advance_ms=100)
        measured += [interval.measured_mj] if interval is not None else []
    assert not bench.metering.lost
    assert bench.metering.take_notes() == []
    assert measured == [pytest.approx(1000.0)]
    bench.sampler.close()


def test_a_slow_meter_is_followed(bench):
    bench.meter.period_s = 5.0
    metering = bench.metering = Metering(bench.sampler)
    for index in range(500):
        bench.clock.advance_ms(50)
        bench.meter.energy_mj += 10.0
        metering.charge("full", 10.0, bench.last_ms())
        if index % 100 == 0:
            bench.sampler.poll()
        bench.ended_interval()
    assert not metering.lost
    assert metering.total_mj == pytest.approx(4000.0)


def test_the_same_trouble_is_said_once_a_minute(bench):
    bench.settle()
    for _ in range(100):
        bench.step(-20.0)
        bench.step(10.0)
    assert len(bench.metering.take_notes()) == 1
    bench.step(-20.0, advance_ms=1000 * REPEAT_S)
    assert len(bench.metering.take_notes()) == 1


odd_mj = st.floats(allow_nan=True, allow_infinity=True, width=64)


@given(st.lists(st.tuples(odd_mj, st.integers(-(10**12), 10**12), st.booleans()), max_size=40))
def test_nothing_that_a_meter_shows_is_counted_that_cannot_be_true(shown):
    bench = Bench()
    before_mj = ended_mj = 0.0
    for calls, (energy_mj, time_ns, fails) in enumerate(shown, 1):
        bench.clock.advance_ms(10)
        bench.meter.error = ZeroDivisionError("a bug") if fails else None
        reading = Reading(energy_mj, time_ns)
        bench.meter.read = partial(_read, bench, reading)
        bench.metering.charge("full", 10.0, bench.last_ms())
        bench.sampler.poll()
        interval = bench.ended_interval()
        assert bench.metering.total_mj >= before_mj
        assert math.isfinite(bench.metering.total_mj)
        before_mj = bench.metering.total_mj
        if interval is not None and interval.measured_mj is not None:
            assert 0 < interval.measured_mj < math.inf
        ended_mj += 0.0 if interval is None else interval.spent.total_mj
        # Every call is charged to one interval, this one or one to come.
        assert ended_mj + bench.metering._expected_mj == pytest.approx(10.0 * calls)
    bench.sampler.close()


def _read(bench, reading):
    if bench.meter.error is not None:
        raise bench.meter.error
    return reading


class Metered:
    """An engine with a meter that counts what each call takes; a test breaks it."""

    def __init__(self, budget=None, **options):
        self.clock = FakeClock()
        self.meter = HandMeter(self.clock)
        self.sampler = Sampler(self.meter, self.clock)
        self.script = Script()
        self.engine, _ = scripted(
            self.script, clock=self.clock, sampler=self.sampler, budget=budget, **options
        )

    def call(self, factor=1.0, offset_mj=0.0):
        self.sampler.poll()
        self.engine(X)
        taken_mj = ENERGY_MJ[self.engine.last.configuration]
        self.meter.energy_mj += factor * taken_mj + offset_mj
        return self.engine.last.configuration, taken_mj


@pytest.fixture
def metered():
    metered = Metered(Budget(energy_mj=40))
    yield metered
    metered.engine.close()
    assert metered.meter.closed == 1


def _mean_mj(metered, calls, **how):
    return sum(metered.call(**how)[1] for _ in range(calls)) / calls


def _expected_mj(metered):
    return {
        entry.configuration: entry.energy_mj for entry in metered.engine.stats().configurations
    }


def _stops(metered):
    return {"factor": 0.0}


def _raises(metered):
    metered.meter.error = OSError("gone")
    return {}


def _is_lost_at_once(metered):
    metered.sampler.latest = None
    metered.meter.error = MeterError("gone.")
    return {}


@pytest.mark.parametrize("fault", [_stops, _raises, _is_lost_at_once])
def test_budgets_are_kept_by_expectation_while_a_meter_is_lost(metered, fault, caplog):
    assert _mean_mj(metered, 200) == pytest.approx(40, rel=0.1)
    before = _expected_mj(metered)
    how = fault(metered)
    assert _mean_mj(metered, 1000, **how) == pytest.approx(40, rel=0.05)
    assert metered.engine.stats().meter_lost
    assert _expected_mj(metered) == pytest.approx(before, rel=0.05)
    assert sum("has said nothing new" in text for text in texts(caplog)) == 1
    metered.meter.error = None
    assert _mean_mj(metered, 200) == pytest.approx(40, rel=0.1)
    assert not metered.engine.stats().meter_lost


def test_nothing_is_learnt_from_a_jump_or_a_reset(metered, caplog):
    _mean_mj(metered, 200)
    before, counted_mj = _expected_mj(metered), metered.engine.stats().metered_mj
    metered.call(offset_mj=1e9)
    metered.call()
    metered.meter.energy_mj = 0.0
    metered.call()
    metered.call()
    assert _expected_mj(metered) == pytest.approx(before, rel=0.05)
    assert metered.engine.stats().metered_mj - counted_mj < 500
    assert _mean_mj(metered, 400) == pytest.approx(40, rel=0.05)
    assert len(texts(caplog)) == 2


def test_a_meter_that_reads_twice_as_much_is_believed(metered):
    assert _mean_mj(metered, 600, factor=1.0) == pytest.approx(40, rel=0.05)
    for _ in range(600):
        metered.call(factor=2.0)
    mean_mj = sum(2 * metered.call(factor=2.0)[1] for _ in range(200)) / 200
    assert mean_mj == pytest.approx(40, rel=0.1)


EVENTS = ("normal", "stop", "back", "jump", "raise", "nan", "again")


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_calls_run_whatever_the_meter_does(events):
    metered = Metered(Budget(energy_mj=40, power_w=8))
    for event in events:
        metered.meter.error = ZeroDivisionError("a bug") if event == "raise" else None
        if event == "back":
            metered.meter.energy_mj = 0.0
        if event == "nan":
            metered.meter.energy_mj = math.nan
        if event == "again":
            metered.meter.energy_mj = 1.0
        metered.call(0.0 if event == "stop" else 1.0, 1e7 if event == "jump" else 0.0)
    stats = metered.engine.stats()
    assert stats.calls == len(events)
    assert 0 <= stats.metered_mj < math.inf
    assert all(0 < entry.energy_mj < math.inf for entry in stats.configurations)
    account = metered.engine._control.state.account
    if account is not None:
        assert abs(account.energy_mj) <= 32 * 40
        assert abs(account.power_mj) <= 8000 * 10
    metered.engine.close()
