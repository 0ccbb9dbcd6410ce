from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skipc.runtime import Budget, ChoiceError, EngineError
from skipc.runtime.call.arrays import NotFiniteError, OutputChecker
from tests.runtime.faulty import ENERGY_MJ, PATIENCE_S, Script, X, scripted, texts

FLOATS = ("float16", "float32", "float64", "complex64")


def nan(*names):
    """Returns a script in which these configurations compute NaN."""
    script = Script()
    for name in names:
        script.outputs[name] = {"y": np.array([1.0, np.nan, np.inf])}
    return script


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_float_type_is_looked_at(dtype, value):
    array = np.array([[0, 1], [value, 2]], dtype)
    with pytest.raises(NotFiniteError, match="'full': 1 of 4 values of output 'y' are NaN"):
        OutputChecker("fall-back").check("full", {"y": array})


@pytest.mark.parametrize("dtype", [*FLOATS, "int8", "int64", "bool", "uint8"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_finite_outputs_pass(dtype, shape, caplog):
    for policy in ("pass", "warn", "fall-back"):
        OutputChecker(policy).check("full", {"y": np.zeros(shape, dtype)})
    OutputChecker("fall-back").check("full", {"y": np.full(2, np.finfo("f4").max, "f4")})
    assert texts(caplog) == []


def test_the_output_at_fault_is_named():
    outputs = {"labels": np.arange(3), "y": np.zeros(2), "z": np.array([np.nan])}
    with pytest.raises(NotFiniteError, match="1 of 1 values of output 'z'"):
        OutputChecker("fall-back").check("full", outputs)


def test_what_is_no_numpy_array_is_not_looked_at():
    OutputChecker("fall-back").check("full", {"y": object()})


def test_a_wrong_policy_names_the_right_ones():
    with pytest.raises(ChoiceError, match=r"nan_outputs='warm' .* Did you mean 'warn'\?"):
        scripted(Script(), nan_outputs="warm")


def test_pass_does_not_look(caplog):
    engine, _ = scripted(nan("full"))
    with engine:
        assert np.isnan(engine(X)).any()
    assert texts(caplog) == []


def test_warn_says_it_once_for_each_configuration(caplog):
    engine, _ = scripted(nan("full", "fast"), nan_outputs="warn")
    with engine:
        for name in ("full", "mid", "fast", "full", "fast"):
            engine.pin(name)
            engine(X)
        assert engine.stats().calls == 5
        assert engine.stats().bad == {}
    full, fast = texts(caplog)
    assert full.startswith("configuration 'full': 2 of 3 values of output 'y' are NaN")
    assert fast.startswith("configuration 'fast'")


def test_warn_says_it_once_with_many_threads(caplog):
    together = threading.Barrier(8, timeout=PATIENCE_S)

    def outputs(_name, _inputs):
        together.wait()
        return {"y": np.array([np.nan])}

    engine, _ = scripted(outputs, nan_outputs="warn")
    with engine, ThreadPoolExecutor(8) as pool:
        list(pool.map(engine, [X] * 8))
    assert len(texts(caplog)) == 1


def test_fall_back_runs_the_next_cheaper_and_leaves_nothing_out(caplog):
    script = nan("full")
    engine, _ = scripted(script, nan_outputs="fall-back")
    with engine:
        for _ in range(2):
            assert engine(X) == 1.0
        assert script.ran == ["full", "mid"] * 2
        assert engine.stats().bad == {}
        first, second, *_ = engine.trace()
        assert first.failure.startswith("configuration 'full': 2 of 3 values")
        assert second.reason.startswith("'full' failed; 'mid'")
    assert texts(caplog) == []


def test_fall_back_raises_where_the_next_one_computes_nan_too():
    script = nan("full", "mid")
    engine, _ = scripted(script, nan_outputs="fall-back")
    with engine:
        with pytest.raises(EngineError, match="configuration 'full': 2 of 3"):
            engine(X)
        assert script.ran == ["full", "mid"]
        assert engine.stats().bad == {}


def test_fall_back_raises_what_is_pinned():
    engine, _ = scripted(nan("full"), nan_outputs="fall-back")
    with engine:
        engine.pin("full")
        with pytest.raises(EngineError, match="configuration 'full'"):
            engine(X)


def test_an_engine_is_not_left_out_where_the_stand_in_computes_nan():
    script = nan("mid")
    script.errors["full"] = EngineError("no.")
    engine, _ = scripted(script, nan_outputs="fall-back")
    with engine:
        with pytest.raises(EngineError, match=r"no\."):
            engine(X)
        assert engine.stats().bad == {}


def test_latencies_are_learnt_though_the_outputs_are_refused():
    script = nan("full")
    slow = {"full": 32.0, "mid": 20.0, "fast": 8.0}
    engine, _ = scripted(script, slow, nan_outputs="fall-back", budget=Budget(latency_ms=14))
    with engine:
        for _ in range(10):
            engine(X)
        assert engine.stats().slowdown == pytest.approx(4.0, rel=0.1)
        assert engine.last.configuration == "fast"


def test_both_runs_are_charged_and_one_grant_is_earned():
    engine, _ = scripted(nan("full"), nan_outputs="fall-back", budget=Budget(energy_mj=100))
    with engine:
        engine(X)
        account = engine._control.state.account
        assert account.energy_mj == pytest.approx(100 - ENERGY_MJ["full"] - ENERGY_MJ["mid"])
