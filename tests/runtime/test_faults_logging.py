"""What is logged: every event once, nothing for each call, and never under a lock."""

from __future__ import annotations

import logging
import threading

import pytest

from skipc.runtime import Budget, BudgetError, EngineError, FakeClock, Sampler
from skipc.runtime.call.record import INFEASIBLE_AGAIN_S
from tests.runtime.faulty import PATIENCE_S, HandMeter, Script, X, scripted, texts

TOO_LITTLE = Budget(latency_ms=1)


def test_calls_log_nothing(caplog):
    caplog.set_level(logging.DEBUG)
    engine, _ = scripted(Script(), hang_ms=1000, nan_outputs="warn")
    with engine:
        for name in ("full", "fast", None):
            engine.pin(name)
            for budget in (Budget(latency_ms=20), Budget(energy_mj=40), None):
                engine.budget = budget
                for _ in range(20):
                    engine(X)
    assert texts(caplog) == []


def test_a_budget_that_cannot_be_met_is_logged_once_for_each_episode(caplog):
    engine, clock = scripted(Script(), budget=TOO_LITTLE)
    with engine:
        for episode in range(3):
            for _ in range(50):
                engine(X)
            assert len(texts(caplog)) == episode + 1
            for _ in range(2):
                engine(X, deadline_ms=1000)
                clock.advance_ms(1000 * INFEASIBLE_AGAIN_S)
        assert engine.stats().infeasible_calls == 150
    assert texts(caplog)[0].startswith("the budget cannot be met: nothing fits 1 ms as surely")


def test_a_budget_that_every_other_call_meets_is_one_episode(caplog):
    engine, _ = scripted(Script(), budget=TOO_LITTLE)
    with engine:
        for _ in range(100):
            engine(X)
            engine(X, deadline_ms=1000)
        assert engine.stats().infeasible_calls == 100
    assert len(texts(caplog)) == 1


def test_rare_calls_that_meet_nothing_are_one_episode(caplog):
    engine, clock = scripted(Script(), budget=TOO_LITTLE)
    with engine:
        for _ in range(10):
            engine(X)
            clock.advance_ms(2000 * INFEASIBLE_AGAIN_S)
    assert len(texts(caplog)) == 1


def test_a_budget_for_each_call_is_logged_once_a_minute(caplog):
    engine, clock = scripted(Script())
    with engine:
        for _ in range(150):
            engine.budget = Budget(latency_ms=1)
            engine(X)
            clock.advance_ms(10 * INFEASIBLE_AGAIN_S)
    assert len(texts(caplog)) == 2


def test_strict_raises_and_logs_nothing(caplog):
    engine, _ = scripted(Script(), budget=TOO_LITTLE, strict=True)
    with engine:
        for _ in range(3):
            with pytest.raises(BudgetError):
                engine(X)
    assert texts(caplog) == []


class Reporter(logging.Handler):
    """A handler that looks at the engine from another thread, and waits for that."""

    def __init__(self):
        super().__init__()
        self.engine = None
        self.seen = []

    def emit(self, record):
        def look():
            self.seen.append((record.getMessage(), self.engine.stats().calls))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.fixture
def reporter():
    reporter, logger = Reporter(), logging.getLogger("skipc.runtime")
    logger.addHandler(reporter)
    yield reporter
    logger.removeHandler(reporter)


def test_a_handler_may_use_the_engine(reporter):
    script = Script(fast=EngineError("no."))
    clock = FakeClock()
    meter = HandMeter(clock)
    sampler = Sampler(meter, clock)
    engine, _ = scripted(script, clock=clock, budget=TOO_LITTLE, sampler=sampler)
    reporter.engine = engine
    with engine:
        for energy_mj in (0.0, 10.0, 20.0, 0.0, 10.0):
            meter.energy_mj = energy_mj
            clock.advance_ms(5)
            sampler.poll()
            engine(X)
    beginnings = [text.split()[0:3] for text, _ in reporter.seen]
    assert beginnings == [
        ["the", "budget", "cannot"],
        ["configuration", "'fast'", "failed"],
        ["the", "meter", "went"],
    ]


def test_a_handler_may_use_the_engine_when_a_call_hangs(reporter):
    script = Script()
    script.waits["full"] = threading.Event()
    engine, clock = scripted(script, hang_ms=10)
    reporter.engine = engine
    with engine:
        call = threading.Thread(target=engine, args=(X,))
        call.start()
        assert script.entered.wait(PATIENCE_S)
        clock.advance_ms(1000)
        while not engine.stats().hanging:
            script.entered.wait(0.001)
        script.waits["full"].set()
        call.join(PATIENCE_S)
    assert [text.split()[0:2] for text, _ in reporter.seen] == [["a", "call"], ["the", "call"]]
