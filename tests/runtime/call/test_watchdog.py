from __future__ import annotations

import gc
import logging
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from skipc.runtime import Budget, FakeClock
from skipc.runtime.call.watchdog import Watchdog, started_watchdog
from tests.runtime.faulty import PATIENCE_S, Script, X, scripted, texts


class Reports:
    """Notes the last report of each configuration, and tells when it came."""

    def __init__(self):
        self.all = []
        self.changed = threading.Condition()

    def __call__(self, configuration, calls):
        with self.changed:
            self.all.append((configuration, calls))
            self.changed.notify_all()

    def wait_for(self, report):
        with self.changed:
            assert self.changed.wait_for(lambda: report in self.all, PATIENCE_S)


def watched(limit_ms=100):
    clock, reports = FakeClock(), Reports()
    return Watchdog(limit_ms, clock.now_ns, reports), clock, reports


def test_a_call_that_hangs_is_reported_once_and_again_when_it_ends(caplog):
    watchdog, clock, reports = watched()
    ticket = watchdog.begin("full")
    clock.advance_ms(100)
    watchdog.look()
    assert reports.all == []
    clock.advance_ms(1)
    for _ in range(3):
        watchdog.look()
    assert reports.all == [("full", 1)]
    clock.advance_ms(899)
    watchdog.end(ticket)
    assert reports.all == [("full", 1), ("full", 0)]
    began, ended = caplog.records
    assert began.levelno == logging.ERROR
    assert "'full' has been running for more than 100 ms" in began.getMessage()
    assert ended.levelno == logging.WARNING
    assert "that hung ended after 1000 ms" in ended.getMessage()


def test_a_call_that_ends_in_time_is_never_mentioned(caplog):
    watchdog, clock, reports = watched()
    watchdog.end(watchdog.begin("full"))
    clock.advance_ms(1e6)
    watchdog.look()
    assert reports.all == []
    assert texts(caplog) == []


def test_every_call_of_a_configuration_counts(caplog):
    watchdog, clock, reports = watched()
    first, second = watchdog.begin("full"), watchdog.begin("full")
    other = watchdog.begin("fast")
    clock.advance_ms(101)
    watchdog.look()
    third = watchdog.begin("full")
    watchdog.end(second)
    watchdog.end(third)
    watchdog.end(other)
    watchdog.end(first)
    assert reports.all == [("fast", 1), ("full", 2), ("full", 1), ("fast", 0), ("full", 0)]
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 2


def test_a_report_is_not_overtaken_by_that_of_the_end():
    clock, order = FakeClock(), []
    ending = threading.Event()

    def report(configuration, calls):
        if calls:
            ender = threading.Thread(target=end)
            ender.start()
            assert ending.wait(PATIENCE_S)
            order.append(ender)
        order.append((configuration, calls))

    def end():
        ending.set()
        watchdog.end(ticket)

    watchdog = Watchdog(100, clock.now_ns, report)
    ticket = watchdog.begin("full")
    clock.advance_ms(101)
    watchdog.look()
    order[0].join(PATIENCE_S)
    assert order[1:] == [("full", 1), ("full", 0)]


@pytest.mark.parametrize("step_ms", [-1e9, 1e12])
def test_a_clock_that_jumps_raises_nothing(step_ms):
    now_ns = [0]
    reports = Reports()
    watchdog = Watchdog(100, lambda: now_ns[0], reports)
    ticket = watchdog.begin("full")
    now_ns[0] = int(step_ms * 1e6)
    watchdog.look()
    watchdog.end(ticket)
    assert reports.all in ([], [("full", 1), ("full", 0)])


def test_without_a_limit_nothing_looks():
    with ExitStack() as stack:
        assert started_watchdog(None, FakeClock().now_ns, Reports(), stack) is None


def test_the_thread_looks_until_it_is_closed():
    clock, reports = FakeClock(), Reports()
    with ExitStack() as stack:
        watchdog = started_watchdog(1, clock.now_ns, reports, stack)
        ticket = watchdog.begin("full")
        clock.advance_ms(2)
        reports.wait_for(("full", 1))
        watchdog.end(ticket)
    assert "skipc-watchdog" not in [thread.name for thread in threading.enumerate()]
    watchdog.close()


def test_closing_in_its_own_thread_does_not_wait_for_itself():
    clock, closed = FakeClock(), threading.Event()

    def report(_configuration, _calls):
        watchdog.close()
        closed.set()

    watchdog = Watchdog(1, clock.now_ns, report)
    watchdog.begin("full")
    clock.advance_ms(2)
    watchdog.start()
    assert closed.wait(PATIENCE_S)
    watchdog.close()


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
    control = engine._control
    with engine, ThreadPoolExecutor(1) as pool:
        call = hanging(engine, script, clock, pool)
        assert control._is_idle()
        script.waits["full"].set()
        call.result(PATIENCE_S)
        assert control._is_idle()


def test_an_engine_collected_in_the_watchdogs_thread_is_freed():
    clock = FakeClock()
    freed = threading.Event()

    def report(_configuration, _calls):
        # As if a collection came up here: it frees what nobody else holds.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            held.clear()
            gc.collect()
        freed.set()

    script = Script()
    engine, _ = scripted(script, clock=clock, hang_ms=10)
    watchdog = engine._runner._watchdog
    watchdog._report = report
    held = [engine]
    gone = weakref.ref(engine)
    watchdog.begin("full")
    del engine
    clock.advance_ms(20)
    assert freed.wait(PATIENCE_S)
    assert gone() is None
    watchdog._thread.join(PATIENCE_S)
    assert not watchdog._thread.is_alive()
