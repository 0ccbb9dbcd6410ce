"""What happens when a backend raises."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from skipc.runtime import Budget, ClosedError, EngineError, InputError
from tests.runtime.faulty import ENERGY_MJ, PATIENCE_S, POINTS, Script, X, scripted, texts


def test_next_cheaper_runs_and_the_one_that_failed_is_left_out(caplog):
    script = Script(full=EngineError("out of memory."))
    engine, _ = scripted(script)
    with engine:
        for _ in range(3):
            assert engine(X) == 1.0
        stats = engine.stats()
        assert script.ran == ["full", "mid", "mid", "mid"]
        assert stats.bad == {"full": "out of memory."}
        assert [entry.calls for entry in stats.configurations] == [0, 3, 0]
        assert [record.failure for record in engine.trace()] == ["out of memory.", "", "", ""]
        assert engine.trace()[1].reason.startswith("'full' failed; 'mid' is ")
    (text,) = texts(caplog)
    assert text == (
        "configuration 'full' failed and is left out from now on; 'mid' ran instead."
        " AdaptiveEngine.restore('full') takes it back. out of memory."
    )


def test_restore_takes_it_back_and_it_may_fail_again(caplog):
    script = Script(full=EngineError("no."))
    engine, _ = scripted(script)
    with engine:
        engine(X)
        del script.errors["full"]
        engine.restore("full")
        engine.restore("full")
        assert engine.stats().bad == {}
        engine(X)
        assert engine.last.configuration == "full"
        script.errors["full"] = EngineError("again.")
        engine(X)
        assert engine.stats().bad == {"full": "again."}
    assert len(texts(caplog)) == 2


def test_cheapest_other_runs_where_none_is_cheaper():
    script = Script(fast=EngineError("no."))
    engine, _ = scripted(script, budget=Budget(latency_ms=4))
    with engine:
        engine(X)
        assert script.ran == ["fast", "mid"]
        assert set(engine.stats().bad) == {"fast"}


def test_neither_is_bad_when_both_fail_and_the_first_error_is_raised(caplog):
    cause = OSError("the driver is gone")
    first = EngineError("first.")
    first.__cause__ = cause
    engine, _ = scripted(Script(full=first, mid=EngineError("second.")))
    with engine:
        with pytest.raises(EngineError, match=r"^first\.$") as raised:
            engine(X)
        assert raised.value is first
        assert raised.value.__cause__ is cause
        assert engine.stats().bad == {}
        assert engine.stats().calls == 0
        assert [record.failure for record in engine.trace()] == ["first.", "second."]
    assert texts(caplog) == []


def test_a_pinned_configuration_has_no_stand_in():
    script = Script(full=EngineError("no."))
    engine, _ = scripted(script)
    with engine:
        engine.pin("full")
        with pytest.raises(EngineError, match="no"):
            engine(X)
        assert script.ran == ["full"]
        assert engine.stats().bad == {}


def test_a_bad_configuration_can_be_pinned():
    script = Script(full=EngineError("no."))
    engine, _ = scripted(script)
    with engine:
        engine(X)
        script.errors.clear()
        engine.pin("full")
        engine(X)
        assert engine.last.configuration == "full"


def test_the_callers_mistake_is_not_tried_again():
    script = Script(full=InputError("x: wrong."))
    engine, _ = scripted(script)
    with engine:
        with pytest.raises(InputError, match="wrong"):
            engine(X)
        assert script.ran == ["full"]
        assert engine.stats().bad == {}
        assert engine.last.failure == "x: wrong."


@pytest.mark.parametrize("first", [True, False])
def test_the_applications_own_exception_is_none_of_the_engines(first):
    timeout = TimeoutError("the application's")  # as the handler of a signal raises it
    script = Script(full=timeout if first else EngineError("no."), mid=timeout)
    engine, _ = scripted(script)
    with engine:
        with pytest.raises(TimeoutError) as raised:
            engine(X)
        assert raised.value is timeout
        assert script.ran == (["full"] if first else ["full", "mid"])
        assert engine.stats().bad == {}
        assert engine.last.failure == "the application's"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_interrupt_passes_and_the_engine_can_be_closed(error):
    script = Script(full=error)
    engine, clock = scripted(script, hang_ms=1000)
    with pytest.raises(type(error)):
        engine(X)
    assert script.ran == ["full"]
    assert engine.last.latency_ms == 8.0
    assert engine.last.time_s == pytest.approx(0.008)
    assert engine.last.failure in (type(error).__name__, "3")
    assert engine.stats().bad == {}
    closing = threading.Thread(target=engine.close)
    closing.start()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert clock.now_ns() == 8_000_000


def test_an_interrupt_in_the_stand_in_passes():
    engine, _ = scripted(Script(full=EngineError("no."), mid=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        engine(X)
    assert engine.stats().bad == {}
    engine.close()


def test_a_failure_without_a_text_is_named_and_a_long_one_is_cut():
    script = Script(full=EngineError(""), mid=EngineError("x" * 5000))
    engine, _ = scripted(script)
    with engine:
        with pytest.raises(EngineError, match=r"^$"):
            engine(X)
        short, long = engine.trace()
        assert short.failure == "EngineError"
        assert long.failure == "x" * 1000 + " ..."


def test_a_single_configuration_that_fails_raises():
    engine, _ = scripted(Script(full=EngineError("no.")), points=POINTS[:1])
    with engine:
        for _ in range(2):
            with pytest.raises(EngineError, match="no"):
                engine(X)
        assert engine.stats().bad == {}


def test_failed_calls_teach_no_latency():
    script = Script(full=EngineError("no."))
    latencies_ms = {"full": 800.0, "mid": 5.0, "fast": 2.0}
    engine, _ = scripted(script, latencies_ms)
    with engine:
        engine.pin("full")
        for _ in range(20):
            with pytest.raises(EngineError):
                engine(X)
        assert engine.stats().slowdown == 1.0


def test_the_stand_in_is_granted_what_the_call_was():
    engine, _ = scripted(Script(full=EngineError("no.")), budget=Budget(latency_ms=12))
    with engine:
        engine(X, deadline_ms=30)
        assert [record.limit_ms for record in engine.trace()] == [30, 30]
        assert [record.budget for record in engine.trace()] == [Budget(latency_ms=12)] * 2


def test_the_stand_in_reaches_the_accuracy_that_is_asked_for():
    script = Script(mid=EngineError("no."))
    engine, _ = scripted(
        script, ranked_by="accuracy", budget=Budget(latency_ms=7, min_accuracy=0.92)
    )
    with engine:
        engine(X)
        assert script.ran == ["mid", "full"]


def test_strict_refuses_a_stand_in_that_does_not_fit():
    script = Script(fast=EngineError("no."))
    engine, _ = scripted(script, budget=Budget(latency_ms=4), strict=True)
    with engine:
        with pytest.raises(EngineError, match="no"):
            engine(X)
        assert script.ran == ["fast"]
        assert engine.stats().bad == {}


def test_a_call_whose_engine_fails_while_it_is_closed_says_why_it_failed():
    script = Script(full=EngineError("no."))
    script.waits["full"] = threading.Event()
    engine, _ = scripted(script)
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(engine, X)
        assert script.entered.wait(PATIENCE_S)
        closing = pool.submit(engine.close)
        while True:
            try:
                engine.pin(None)
            except ClosedError:
                break
        script.waits["full"].set()
        with pytest.raises(EngineError, match=r"no\."):
            call.result(PATIENCE_S)
        closing.result(PATIENCE_S)


def _spent_mj(engine):
    """What the budget's account of power says was spent."""
    account = engine._control.state.account
    granted_mj = 1e6 * account.settled_s
    return granted_mj - account.power_mj


@pytest.mark.parametrize("took_ms", [0.0, 4.0, 8.0, 80.0])
def test_a_failed_call_is_charged_for_the_time_that_it_ran(took_ms):
    script = Script(full=EngineError("no."))
    engine, _ = scripted(
        script, {"full": took_ms}, points=POINTS[:1], budget=Budget(power_w=1e3)
    )
    with engine:
        with pytest.raises(EngineError):
            engine(X)
        share = min(took_ms / 8.0, 1.0)
        assert _spent_mj(engine) == pytest.approx(share * ENERGY_MJ["full"])


def test_a_call_that_failed_earns_no_grant_of_energy_per_inference():
    script = Script(full=EngineError("no."))
    engine, _ = scripted(script, budget=Budget(energy_mj=100))
    with engine:
        engine(X)
        account = engine._control.state.account
        assert account.energy_mj == pytest.approx(100 - ENERGY_MJ["full"] - ENERGY_MJ["mid"])


def test_failures_are_counted_once_with_many_threads(caplog):
    together = threading.Barrier(8, timeout=PATIENCE_S)

    def outputs(name, inputs):
        if name == "full":
            together.wait()  # all of them are inside before the first one fails
            raise EngineError("no.")
        return {"y": inputs["x"].mean(axis=1)}

    engine, _ = scripted(outputs)
    with engine, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(engine, [X] * 8)) == [1.0] * 8
        list(pool.map(engine, [X] * 92))
        stats, trace = engine.stats(), engine.trace()
    assert stats.calls == 100
    assert stats.bad == {"full": "no."}
    assert sum(1 for record in trace if record.failure) == 8
    assert len(texts(caplog)) == 1


def test_two_that_stand_in_for_each_other_are_not_both_left_out():
    both_failed = threading.Barrier(2, timeout=PATIENCE_S)
    tried = threading.local()

    def outputs(name, inputs):
        # Each thread's first configuration fails; the other's works.
        if not hasattr(tried, "first"):
            tried.first = name
            both_failed.wait()
            raise EngineError("no.")
        if tried.first:
            both_failed.wait()
        return {"y": inputs["x"].mean(axis=1)}

    engine, _ = scripted(outputs, points=POINTS[:2])
    with engine, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(engine, X), pool.submit(engine, X, 7.0)]
        assert [call.result(PATIENCE_S) for call in calls] == [1.0, 1.0]
        assert {record.configuration for record in engine.trace()} == {"full", "mid"}
        assert len(engine.stats().bad) == 1
        tried.first = ""
        assert engine(X) == 1.0


def test_a_failure_keeps_neither_the_engine_nor_the_inputs_alive():
    script = Script(full=EngineError("one"), mid=EngineError("two"))
    engine, _ = scripted(script)
    gone = weakref.ref(engine)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(EngineError, match="one"):
            engine(X)
        script.errors.clear()
        engine.close()
        del engine
        assert gone() is None
    finally:
        gc.enable()
