"""Engines that nobody closes, that are forked, or whose process ends."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path

import pytest

from skipc.runtime import AdaptiveEngine, EngineError, FakeClock, Sampler
from tests.runtime.faulty import (
    INPUTS,
    PATIENCE_S,
    POINTS,
    CountingBackend,
    HandMeter,
    Script,
    X,
    scripted,
)

ROOT = Path(__file__).parents[2]


def test_an_engine_that_is_forgotten_warns_and_frees_everything():
    clock = FakeClock()
    meter = HandMeter(clock)
    sampler = Sampler(meter, clock, period_s=3600)
    sampler.start()
    backend = CountingBackend(clock=clock)
    engine = AdaptiveEngine(
        POINTS, INPUTS, backend, clock=clock, sampler=sampler, hang_ms=1000, warm_up_runs=0
    )
    engine(X)
    threads = {thread.name: thread for thread in threading.enumerate()}
    started = [threads["skipc-watchdog"], threads["meter hand"]]
    gone = weakref.ref(engine)
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="never closed: use `with AdaptiveEngine"):
            del engine
        gc.collect()  # what is recorded holds the engine until here
    finally:
        gc.enable()
    assert gone() is None
    assert backend.closed == ["fast", "mid", "full", "backend"]
    assert meter.closed == 1
    for thread in started:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("hang_ms", [None, 1000])
def test_no_cycle_keeps_an_engine_alive(hang_ms):
    script = Script(full=EngineError("no."))
    engine, clock = scripted(script, hang_ms=hang_ms, nan_outputs="warn")
    sampler = Sampler(HandMeter(clock), clock)
    metered, _ = scripted(script, clock=clock, sampler=sampler)
    gone = [weakref.ref(engine), weakref.ref(metered)]
    gc.collect()
    gc.disable()
    try:
        for one in (engine, metered):
            one(X)
            one.stats()
            one.trace()
            one.close()
        script.errors.clear()  # an error holds the frames that it passed
        del engine, metered, one
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_closing_twice_frees_once():
    backend = CountingBackend()
    engine = AdaptiveEngine(POINTS, INPUTS, backend, warm_up_runs=0)
    threads = [threading.Thread(target=engine.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    engine.close()
    assert backend.closed == ["fast", "mid", "full", "backend"]


def test_a_constructor_that_fails_neither_warns_nor_leaks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError):
            AdaptiveEngine()
        gc.collect()


def _run(program):
    """Runs a program in a fresh interpreter; returns what it printed."""
    # From Python 3.12 on, a fork beside a thread warns.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        [*command, "-c", PRELUDE + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


PRELUDE = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", ResourceWarning)
from skipc.runtime import AdaptiveEngine, Budget, ClosedError, FakeClock, Sampler
from tests.runtime.faulty import *

class Loud(CountingBackend):
    def close(self):
        print("closed in", "the parent" if os.getpid() == PARENT else "the child", flush=True)

PARENT = os.getpid()
clock = FakeClock()
sampler = Sampler(HandMeter(clock), clock)
sampler.start()
script = Script()
engine = AdaptiveEngine(
    POINTS, INPUTS, Loud(TABLED_MS, script, clock), clock=clock, sampler=sampler,
    hang_ms=10000, budget=Budget(power_w=100), warm_up_runs=0,
)
engine(X)
"""

FORGOTTEN = """
print("ends", flush=True)
"""


def test_everything_is_freed_when_the_interpreter_ends():
    assert _run(FORGOTTEN) == ["ends", "closed in the parent"]


ENDS_WHILE_A_CALL_RUNS = """
import logging
logging.basicConfig(stream=sys.stdout, format="%(message)s")
script.waits["full"] = threading.Event()
threading.Thread(target=engine, args=(X,), daemon=True).start()
assert script.entered.wait(30)
"""


def test_nothing_is_freed_under_a_call_that_still_runs_when_the_interpreter_ends():
    (line,) = _run(ENDS_WHILE_A_CALL_RUNS)
    assert line.startswith("the process ends while a call runs on an engine that was never")


FORKED = """
ready, release = threading.Event(), threading.Event()
def busy():
    script.waits["full"] = release
    engine(X)
caller = threading.Thread(target=busy)
caller.start()
assert script.entered.wait(30)
engine._control.lock.acquire()  # as if another thread were inside when the fork comes
child = os.fork()
if child == 0:
    def refused(action):
        try:
            action()
        except ClosedError as error:
            return "Open an engine in the child." in str(error)
    actions = [
        lambda: engine(X), engine.stats, engine.trace, lambda: engine.pin("full"),
        lambda: engine.restore("full"), lambda: setattr(engine, "budget", None),
    ]
    def all_of_them():
        print([refused(action) for action in actions], flush=True)
        engine.close()
        engine.close()
        print(engine.last.configuration, engine.budget.power_w, flush=True)
    thread = threading.Thread(target=all_of_them, daemon=True)
    thread.start()
    thread.join(20)
    print("the child", "hangs" if thread.is_alive() else "is through", flush=True)
    sys.exit(0)
engine._control.lock.release()
os.waitpid(child, 0)
release.set()
caller.join(30)
script.waits.clear()
print("the parent got", engine(X), engine.stats().calls, flush=True)
engine.close()
"""


def test_a_fork_refuses_everything_and_frees_nothing():
    assert _run(FORKED) == [
        "[True, True, True, True, True, True]",
        "full 100.0",
        "the child is through",
        "the parent got [1.] 3",
        "closed in the parent",
    ]
