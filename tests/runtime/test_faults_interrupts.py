"""An exception between any two lines of a call: Ctrl-C, a signal's handler, another thread."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import skipc.runtime
from skipc.runtime import (
    AdaptiveEngine,
    Budget,
    ClosedError,
    FakeClock,
    OperatingPoint,
    Sampler,
    TensorSpec,
)
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.route import Stage, Test
from skipc.runtime.load.opening import Family
from tests.runtime.faulty import (
    INPUTS,
    PATIENCE_S,
    POINTS,
    TABLED_MS,
    CountingBackend,
    HandMeter,
    Script,
    X,
)

if TYPE_CHECKING:
    from types import FrameType

RUNTIME = str(Path(skipc.runtime.__file__).parent)


class InterruptError(Exception):
    """What the handler of a signal raises."""


class At:
    """Raises before one of the lines (or instructions) that the runtime executes."""

    def __init__(self, number: int, opcodes: bool = False):
        self.left, self.opcodes, self.place = number, opcodes, ""

    def __call__(self, frame: FrameType, event: str, _argument: object):
        if not frame.f_code.co_filename.startswith(RUNTIME) or self.place:
            return None
        frame.f_trace_opcodes = self.opcodes
        if event == ("opcode" if self.opcodes else "line"):
            self.left -= 1
            if self.left < 0:
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise InterruptError
        return self

    @contextmanager
    def traced(self):
        before = sys.gettrace()
        gc.disable()  # what is raised in the finaliser of an earlier engine reaches nobody
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(before)
            gc.enable()


def in_a_thread(action, *arguments):
    """Does something in another thread, which finds every lock that was kept."""
    done = []
    thread = threading.Thread(target=lambda: done.append(action(*arguments)), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return done


def plain(script=None, **options):
    clock = FakeClock()
    backend = CountingBackend(TABLED_MS, script or Script(), clock)
    options = {"warm_up_runs": 0, "budget": Budget(latency_ms=20), **options}
    return AdaptiveEngine(POINTS, INPUTS, backend, clock=clock, **options), backend


def watched():
    clock = FakeClock()
    sampler = Sampler(HandMeter(clock), clock)
    sampler.poll()
    return plain(
        hang_ms=1e6, sampler=sampler, budget=Budget(power_w=100), nan_outputs="fall-back"
    )


def chained():
    outputs = (TensorSpec("y", "float32", (1, 1)),)
    test = Test("y", {"value": 1.0}, 2.0)
    family = Family(
        {"full": (Stage("a", test=test), Stage("b"))},
        outputs,
        size_bytes={"a": 1, "b": 1},
        limit_bytes=2,
    )
    backend = CountingBackend({"a": 1.0, "b": 1.0}, lambda _n, i: {"y": i["x"][:, :1]})
    points = (OperatingPoint("full", 0.9, 2.0, 3.0, upto_ms=(1.0, 2.0)),)
    return AdaptiveEngine(points, INPUTS, backend, family=family, warm_up_runs=0), backend


def loading():
    """A call that has to load its engine, for which another one leaves."""
    backend = CountingBackend({"full": 1.0, "fast": 1.0})
    sizes = {"full": 40, "fast": 30}
    family = Family({name: (Stage(name),) for name in sizes}, (), {}, sizes, 50)
    points = (POINTS[0], POINTS[2])
    engine = AdaptiveEngine(points, INPUTS, backend, family=family, warm_up_runs=0)
    engine.pin("full")
    return engine, backend


def failing():
    """A call that another configuration stands in for."""
    script = Script(full=skipc.runtime.EngineError("no."))
    return plain(script)


KINDS = {each.__name__: each for each in (plain, watched, chained, loading, failing)}


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_behind_wherever_a_call_is_interrupted(kind):
    kept = []  # an application may keep the error, and with it every frame
    for number in range(10_000):
        engine, backend = KINDS[kind]()
        at = At(number)
        try:
            with at.traced():
                engine(X, 15.0 if number % 2 else None)
        except InterruptError as error:
            kept.append(error)
        expected = {"full"} if kind == "failing" else set()
        assert set(engine.stats().bad) <= expected, at.place
        assert engine.stats().hanging == {}, at.place
        assert in_a_thread(engine, X) == [1.0], at.place
        in_a_thread(engine.close)
        assert backend.closed[-1:] == ["backend"], at.place
        if not at.place:
            assert number > 50
            return
    raise AssertionError("the call never came to its end")


def test_between_any_two_instructions_of_a_plain_call():
    engine, backend = plain(hang_ms=1e6)
    for number in range(100_000):
        at = At(number, opcodes=True)
        try:
            with at.traced():
                engine(X)
        except InterruptError:
            assert engine.stats().bad == {}, at.place
            assert not list(engine._runner._in_flight._calls), at.place
        else:
            break
    assert number > 500
    assert in_a_thread(engine, X) == [1.0]
    in_a_thread(engine.close)
    assert backend.closed[-1] == "backend"


def test_close_can_be_interrupted_and_called_again():
    for number in range(10_000):
        engine, backend = watched()
        at = At(number)
        try:
            with at.traced():
                engine.close()
        except InterruptError:
            pass
        in_a_thread(engine.close)
        assert "backend" in backend.closed, at.place
        if not at.place:
            assert number > 20
            return
    raise AssertionError("close never came to its end")


def test_an_exception_of_another_thread_leaves_a_call_that_runs():
    script = Script()
    script.waits["full"] = threading.Event()
    engine, _ = plain(script)
    raised = []

    def call():
        try:
            engine(X)
        except InterruptError as error:
            raised.append(error)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    assert script.entered.wait(PATIENCE_S)
    ident, error = ctypes.c_ulong(caller.ident), ctypes.py_object(InterruptError)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error) == 1
    script.waits["full"].set()
    caller.join(PATIENCE_S)
    assert len(raised) == 1
    assert engine.stats().bad == {}
    assert in_a_thread(engine.close) == [None]


def test_close_from_inside_of_a_call_says_that_it_would_wait_for_itself():
    said = []

    def outputs(_name, inputs):
        with pytest.raises(ClosedError, match="from inside of a call") as raised:
            engine.close()
        said.append(raised)
        return {"y": inputs["x"].mean(axis=1)}

    engine = AdaptiveEngine(POINTS, INPUTS, NullBackend(TABLED_MS, outputs), warm_up_runs=0)
    assert engine(X) == 1.0
    assert len(said) == 1
    engine.close()
