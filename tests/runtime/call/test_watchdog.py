from __future__ import annotations

import gc
import logging
import sys
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from skipc.runtime import Budget, FakeClock
from skipc.runtime.call.lifetime import InFlight, Watchdog, start_watchdog
from tests.runtime.faulty import PATIENCE_S, Script, X, scripted, texts

LIMIT_MS = 100


def watched():
    clock, in_flight = FakeClock(), InFlight()
    return Watchdog(LIMIT_MS, clock.now_ns, in_flight), clock, in_flight


def making(in_flight, clock, configurations, then):
    """Makes a call of each configuration, one within the other; ``then`` in the last one."""
    frame = sys._getframe()
    first, *others = configurations
    in_flight.begin(frame).starts(first, clock.now_ns())
    try:
        if others:
            making(in_flight, clock, others, then)
        else:
            then()
    finally:
        in_flight.end(frame)


def test_a_call_that_hangs_is_reported_once(caplog):
    watchdog, clock, in_flight = watched()

    def then():
        clock.advance_ms(100)
        watchdog.look()
        assert in_flight.hanging() == {}
        clock.advance_ms(1)
        for _ in range(3):
            watchdog.look()
        assert in_flight.hanging() == {"full": 1}

    making(in_flight, clock, ["full"], then)
    assert in_flight.hanging() == {}
    (began,) = caplog.records
    assert began.levelno == logging.ERROR
    assert "'full' has been running for more than 100 ms" in began.getMessage()


def test_a_call_that_hung_says_so_when_it_comes_back(caplog):
    script = Script()
    engine, clock = scripted(script, hang_ms=100)
    with engine, ThreadPoolExecutor(1) as pool:
        call = hanging(engine, script, clock, pool)
        script.waits.pop("full").set()
        call.result(PATIENCE_S)
    began, ended = caplog.records
    assert (began.levelno, ended.levelno) == (logging.ERROR, logging.WARNING)
    assert "that hung ended after 1008 ms" in ended.getMessage()


def test_a_call_that_ends_in_time_is_never_mentioned(caplog):
    watchdog, clock, in_flight = watched()
    making(in_flight, clock, ["full"], lambda: None)
    clock.advance_ms(1e6)
    watchdog.look()
    assert in_flight.hanging() == {}
    assert texts(caplog) == []


def test_every_call_of_a_configuration_counts(caplog):
    watchdog, clock, in_flight = watched()

    def then():
        clock.advance_ms(101)
        watchdog.look()
        assert in_flight.hanging() == {"full": 2, "fast": 1}

    making(in_flight, clock, ["full", "full", "fast"], then)
    assert in_flight.hanging() == {}
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 2


def test_a_call_that_an_exception_tore_off_neither_runs_nor_hangs():
    watchdog, clock, in_flight = watched()

    def torn_off():
        in_flight.begin(sys._getframe()).starts("full", clock.now_ns())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as kept:  # and its traceback keeps the frame
        torn_off()
    clock.advance_ms(1000)
    watchdog.look()
    assert in_flight.hanging() == {}
    assert in_flight.close(patience_s=0)
    assert kept.tb is not None


@pytest.mark.parametrize("step_ms", [-1e9, 1e12])
def test_a_clock_that_jumps_raises_nothing(step_ms):
    now_ns, in_flight = [0], InFlight()
    watchdog = Watchdog(LIMIT_MS, lambda: now_ns[0], in_flight)

    def then():
        now_ns[0] = int(step_ms * 1e6)
        watchdog.look()
        assert in_flight.hanging() in ({}, {"full": 1})

    making(in_flight, FakeClock(), ["full"], then)


def test_the_thread_looks_until_it_is_closed():
    clock, in_flight = FakeClock(), InFlight()

    def then():
        clock.advance_ms(2)
        for _ in range(PATIENCE_S * 1000):
            if in_flight.hanging():
                return
            threading.Event().wait(0.001)
        raise AssertionError("it was never reported")

    with ExitStack() as stack:
        start_watchdog(1, clock.now_ns, in_flight, stack)
        making(in_flight, clock, ["full"], then)
    assert "skipc-watchdog" not in [thread.name for thread in threading.enumerate()]


def hanging(engine, script, clock, pool, name="full"):
    """Lets a call of ``name`` hang; returns its future."""
    script.waits[name] = threading.Event()
    script.entered.clear()
    call = pool.submit(engine, X)
    assert script.entered.wait(PATIENCE_S)
    clock.advance_ms(1000)
    while name not in engine.stats().hanging:
        script.entered.wait(0.001)
    return call


def test_other_calls_avoid_a_configuration_while_it_hangs():
    script = Script()
    engine, clock = scripted(script, hang_ms=100)
    with engine, ThreadPoolExecutor(1) as pool:
        call = hanging(engine, script, clock, pool)
        assert engine.stats().hanging == {"full": 1}
        engine(X)
        assert engine.last.configuration == "mid"
        script.waits.pop("full").set()
        assert call.result(PATIENCE_S) == 1.0
        assert engine.stats().hanging == {}
        clock.advance_ms(500)  # the governor climbs after a dwell only
        engine(X)
        assert engine.last.configuration == "full"
        assert engine.stats().calls == 3


def test_a_hanging_configuration_runs_where_it_is_pinned():
    script = Script()
    engine, clock = scripted(script, hang_ms=100)
    with engine, ThreadPoolExecutor(1) as pool:
        hanging(engine, script, clock, pool)
        script.waits.pop("full").set()
        engine.pin("full")
        engine(X)
        assert engine.last.configuration == "full"


def test_calls_still_run_where_every_configuration_hangs():
    script = Script()
    engine, clock = scripted(script, hang_ms=100)
    with engine, ThreadPoolExecutor(3) as pool:
        calls = [
            hanging(engine, script, clock, pool, name) for name in ("full", "mid", "fast")
        ]
        assert engine.stats().hanging == {"full": 1, "mid": 1, "fast": 1}
        waits, script.waits = script.waits, {}
        engine(X)
        assert engine.last.configuration == "full"
        for event in waits.values():
            event.set()
        assert [call.result(PATIENCE_S) for call in calls] == [1.0] * 3


def test_closing_waits_for_a_call_that_hangs():
    script = Script()
    engine, clock = scripted(script, hang_ms=100)
    with ThreadPoolExecutor(2) as pool:
        call = hanging(engine, script, clock, pool)
        closing = pool.submit(engine.close)
        assert not closing.done()
        script.waits["full"].set()
        closing.result(PATIENCE_S)
        assert call.done() or call.result(PATIENCE_S) == 1.0


def test_time_beside_a_call_that_hangs_counts_as_idle():
    script = Script()
    engine, clock = scripted(script, hang_ms=100, budget=Budget(power_w=1000))
    with engine, ThreadPoolExecutor(1) as pool:
        call = hanging(engine, script, clock, pool)
        assert engine._runner._in_flight.is_alone()
        script.waits["full"].set()
        call.result(PATIENCE_S)


def test_an_engine_collected_in_the_watchdogs_thread_is_freed():
    freed = threading.Event()

    def look(_now_ns, limit_ms):
        # As if a collection came up here: it frees what nobody else holds.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            held.clear()
            gc.collect()
        freed.set()
        return []

    engine, _ = scripted(Script(), hang_ms=10)
    (thread,) = (each for each in threading.enumerate() if each.name == "skipc-watchdog")
    held = [engine]
    gone = weakref.ref(engine)
    engine._runner._in_flight.look = look
    del engine
    assert freed.wait(PATIENCE_S)
    assert gone() is None
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
