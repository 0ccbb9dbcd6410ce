"""A hundred threads call while others change everything that can be changed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from skipc.runtime import Budget, EngineError, FakeClock, InputError, Sampler
from skipc.runtime.call.record import REMEMBERED_CALLS
from tests.runtime.faulty import PATIENCE_S, POINTS, HandMeter, scripted

CALLERS = 100
CALLS = 40
BUDGETS = (
    None,
    Budget(latency_ms=7),
    Budget(latency_ms=20, energy_mj=40),
    Budget(power_w=8, window_s=1),
    Budget(energy_j=100, horizon_s=100, min_accuracy=0.92),
    Budget(latency_ms=1e-3),
)


def _crowd(workers):
    """Runs all of them at once; returns what they raised."""
    raised = []
    start = threading.Barrier(len(workers), timeout=PATIENCE_S)

    def guarded(work):
        try:
            start.wait()
            work()
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
    assert not [thread for thread in threads if thread.is_alive()]
    return raised


@pytest.mark.parametrize("failing", [False, True])
def test_a_hundred_callers_and_everything_changes(failing):
    gate = threading.Lock()
    ran = dict.fromkeys(("full", "mid", "fast", "failed"), 0)

    def outputs(name, inputs):
        with gate:
            ran[name] += 1
            if failing and name != "fast" and ran[name] % 7 == 0:
                ran["failed"] += 1
                raise EngineError("no.")
        return {"y": inputs["x"] * 2}

    clock = FakeClock()
    meter = HandMeter(clock)
    sampler = Sampler(meter, clock, period_s=0.001)
    sampler.start()
    engine, _ = scripted(
        outputs, clock=clock, ranked_by="accuracy", hang_ms=1e6, sampler=sampler
    )
    calling = threading.Semaphore(0)
    done = threading.Event()
    failures = []

    def caller(index):
        try:
            for step in range(CALLS):
                x = np.full((1, 4), index * CALLS + step, np.float32)
                deadline_ms = 5.0 if step % 5 == 0 else None
                try:
                    y = engine(x, deadline_ms)
                except EngineError as error:
                    failures.append(str(error))
                else:
                    assert (y == 2 * x).all()
                meter.energy_mj += 50.0
        finally:
            calling.release()

    def changer(change):
        def work():
            for step in range(10**9):
                change(step)
                if done.wait(0.001):  # the callers get on meanwhile
                    return

        return work

    def wait_for_callers():
        for _ in range(CALLERS):
            assert calling.acquire(timeout=2 * PATIENCE_S)
        done.set()

    def set_budget(step):
        engine.budget = BUDGETS[step % len(BUDGETS)]

    def pin(step):
        engine.pin((None, "full", None, "fast")[step % 4])

    def read(_step):
        stats, trace = engine.stats(), engine.trace()
        assert 0 <= stats.calls <= CALLERS * CALLS
        assert len(trace) <= REMEMBERED_CALLS
        assert set(stats.bad) < {point.configuration for point in POINTS}
        assert all(entry.predicted_ms > 0 for entry in stats.configurations)

    def restore(step):
        engine.restore(("full", "mid", "fast")[step % 3])

    changers = [changer(change) for change in (set_budget, pin, read, restore)]
    callers = [lambda index=index: caller(index) for index in range(CALLERS)]
    assert _crowd([*callers, *changers, wait_for_callers]) == []
    assert not list(engine._runner._in_flight._calls)
    stats, trace = engine.stats(), engine.trace()
    engine.close()
    failed = ran.pop("failed")
    assert stats.calls == CALLERS * CALLS - len(failures)
    assert sum(ran.values()) == len(trace) == stats.calls + failed
    assert sum(1 for record in trace if record.failure) == failed
    assert {entry.configuration: entry.calls for entry in stats.configurations} == {
        name: sum(1 for record in trace if record.configuration == name and not record.failure)
        for name in ran
    }
    assert stats.hanging == {}
    assert meter.closed == 1
    if not failing:
        assert failures == []


class PinningSampler:
    """What is asked for readings in the middle of each choice; pins as another thread may."""

    failure, latest_pin = "", None

    def __init__(self):
        self.meter = HandMeter(FakeClock())
        self.engine = None

    @property
    def latest(self):
        if self.engine is not None:
            self.engine.pin(self.latest_pin)

    def close(self):
        pass


@pytest.mark.parametrize(("before", "meanwhile"), [(None, "full"), ("full", None)])
def test_a_pin_that_changes_in_the_middle_of_a_choice_counts_from_the_next_call(
    before, meanwhile
):
    sampler = PinningSampler()
    engine, _ = scripted(
        lambda _name, inputs: {"y": inputs["x"].mean(axis=1)}, sampler=sampler
    )
    x = np.ones((1, 4), np.float32)
    engine._control.mark_bad("full", EngineError("no."), "mid")
    with engine:
        engine.pin(before)
        sampler.engine, sampler.latest_pin = engine, meanwhile
        for _ in range(2):
            engine(x)
        ran = [record.configuration for record in engine.trace()]
        assert ran == [pinned or "mid" for pinned in (before, meanwhile)]


def test_closing_under_load_refuses_the_rest_and_loses_nothing():
    engine, _ = scripted(lambda _name, inputs: {"y": inputs["x"].mean(axis=1)}, hang_ms=1e6)
    x = np.ones((1, 4), np.float32)
    finished = []
    halfway = threading.Event()

    def call():
        while True:
            engine(x)
            finished.append(1)
            if len(finished) > 500:
                halfway.set()

    def close():
        assert halfway.wait(PATIENCE_S)
        engine.close()

    raised = _crowd([call] * 20 + [close] * 2)
    assert {type(error).__name__ for error in raised} == {"ClosedError"}
    assert len(raised) == 20
    assert engine.stats().calls == len(finished)


def test_wrong_inputs_beside_right_ones_count_for_nothing():
    engine, _ = scripted(lambda _name, inputs: {"y": inputs["x"].mean(axis=1)})

    def right():
        for _ in range(50):
            engine(np.ones((1, 4), np.float32))

    def wrong():
        for _ in range(50):
            with pytest.raises(InputError):
                engine(np.ones((2, 4), np.float32))

    with engine:
        assert _crowd([right, wrong] * 10) == []
        assert engine.stats().calls == 500
