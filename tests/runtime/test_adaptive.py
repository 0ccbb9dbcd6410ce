from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skipc.runtime import (
    AdaptiveEngine,
    Budget,
    BudgetError,
    ChoiceError,
    ClosedError,
    Dimension,
    EngineError,
    FakeClock,
    InputError,
    OperatingPoint,
    TensorSpec,
)
from skipc.runtime.backends.null import NullBackend
from tests.runtime.faulty import CountingBackend

POINTS = (
    OperatingPoint("full", 0.95, 8.0, 10.0, 10.0, weights_bytes=100, own_bytes=40),
    OperatingPoint("mid", 0.93, 5.0, 6.0, 6.0, weights_bytes=80, own_bytes=20),
    OperatingPoint("fast", 0.90, 2.0, 3.0, 3.0, weights_bytes=60, own_bytes=0),
)
INPUTS = (TensorSpec("x", "float32", (1, 4)),)
X = np.ones((1, 4), np.float32)
TABLED_MS = {point.configuration: point.p50_ms for point in POINTS}


def _y(_name, _inputs):
    return {"y": np.zeros((1, 2), np.float32)}


def _engine(latencies_ms=TABLED_MS, outputs=_y, inputs=INPUTS, **options):
    clock = FakeClock()
    options.setdefault("warm_up_runs", 0)
    backend = NullBackend(latencies_ms, outputs, clock)
    return AdaptiveEngine(POINTS, inputs, backend, clock=clock, **options)


def test_call_returns_an_array_for_an_array():
    with _engine() as engine:
        assert engine(X).shape == (1, 2)


def test_call_returns_a_dict_for_a_dict():
    with _engine() as engine:
        assert list(engine({"x": X})) == ["y"]


def test_call_returns_a_dict_for_an_array_when_there_are_several_outputs():
    outputs = {"y": np.zeros(1), "z": np.zeros(2)}
    with _engine(outputs=outputs) as engine:
        assert list(engine(X)) == ["y", "z"]


def test_call_refuses_wrong_inputs_before_it_counts():
    with _engine() as engine:
        with pytest.raises(InputError, match="is float64, expected float32"):
            engine(X.astype(np.float64))
        assert engine.stats().calls == 0
        assert engine.last is None


def test_call_refuses_nan_when_told_to():
    with _engine(nan="raise") as engine, pytest.raises(InputError, match="NaN"):
        engine(X * np.nan)


def test_budget_takes_effect_from_the_next_call():
    with _engine(budget=Budget(latency_ms=12)) as engine:
        engine(X)
        assert engine.last.configuration == "full"
        engine.budget = Budget(latency_ms=7)
        assert engine.last.configuration == "full"
        engine(X)
        assert engine.last.configuration == "mid"
        engine.budget = None
        assert engine.budget == Budget()
        engine(X)
        assert engine.last.configuration == "full"


def test_budget_refuses_a_bare_number():
    with pytest.raises(BudgetError, match=r"budget=12 is not a Budget\. Expected Budget\(lat"):
        _engine(budget=12)
    with _engine() as engine, pytest.raises(BudgetError, match="is not a Budget"):
        engine.budget = 5.0


def test_last_says_what_ran_and_why():
    with _engine(budget=Budget(latency_ms=7)) as engine:
        assert engine.last is None
        engine(X)
        last = engine.last
        assert (last.configuration, last.latency_ms) == ("mid", 5.0)
        assert last.predicted_ms == pytest.approx(6.0)
        assert last.feasible
        assert last.budget == Budget(latency_ms=7)
        assert last.reason.startswith("'mid' is the best of the 2 of 3 that fit 7 ms")


def test_call_runs_the_fastest_and_says_so_when_nothing_fits():
    with _engine(budget=Budget(latency_ms=1)) as engine:
        engine(X)
        assert engine.last.configuration == "fast"
        assert not engine.last.feasible
        assert engine.stats().infeasible_calls == 1


def test_strict_raises_before_it_runs_when_nothing_fits():
    with _engine(budget=Budget(latency_ms=1), strict=True) as engine:
        with pytest.raises(BudgetError, match="no call within the budget: nothing fits 1 ms"):
            engine(X)
        assert engine.last is None
        stats = engine.stats()
        assert (stats.calls, stats.infeasible_calls) == (0, 1)
        engine.budget = Budget(latency_ms=4)
        engine(X)
        assert engine.last.configuration == "fast"


def test_strict_holds_for_a_pinned_configuration():
    with _engine(budget=Budget(latency_ms=7), strict=True) as engine:
        engine.pin("full")
        with pytest.raises(BudgetError, match="'full' is pinned: 10 ms predicted"):
            engine(X)


def test_pin_overrides_the_budget_until_it_is_taken_back():
    with _engine(budget=Budget(latency_ms=4)) as engine:
        engine.pin("full")
        engine(X)
        assert (engine.last.configuration, engine.last.feasible) == ("full", False)
        engine.pin(None)
        engine(X)
        assert engine.last.configuration == "fast"


def test_pin_names_the_nearest_when_unknown():
    with (
        _engine() as engine,
        pytest.raises(ChoiceError, match=r"'fats'\. Did you mean 'fast'"),
    ):
        engine.pin("fats")


def test_call_follows_a_machine_that_becomes_slow_and_recovers():
    factor = [1.0]
    scripts = {name: lambda _, ms=ms: ms * factor[0] for name, ms in TABLED_MS.items()}
    ran = []
    with _engine(scripts, budget=Budget(latency_ms=14)) as engine:
        for factor[0] in [1.0] * 4 + [4.0] * 12 + [1.0] * 300:
            engine(X)
            ran.append(engine.last.configuration)
    assert ran[:4] == ["full"] * 4
    assert ran[12:16] == ["fast"] * 4
    assert ran[-1] == "full"


def test_stats_counts_calls_switches_and_bytes():
    with _engine() as engine:
        for name in ("full", "fast", "fast", "full"):
            engine.pin(name)
            engine(X)
        stats = engine.stats()
    assert (stats.calls, stats.switches, stats.infeasible_calls) == (4, 2, 0)
    assert [entry.calls for entry in stats.configurations] == [2, 0, 2]
    assert stats.backend == "null"
    assert stats.threads == 1
    assert stats.slowdown == pytest.approx(1.0)
    full = stats.configurations[0]
    assert (full.weights_bytes, full.own_bytes, full.shared_bytes) == (100, 40, 60)
    assert (full.p50_ms, full.p95_ms, full.source) == (8.0, 10.0, "table")
    assert full.predicted_ms == pytest.approx(10.0, rel=0.02)
    assert stats.sharing.threads == "the caller's"


def test_stats_and_last_stay_readable_after_close():
    engine = _engine()
    engine(X)
    engine.close()
    assert engine.stats().calls == 1
    assert engine.last.configuration == "full"
    assert engine.configurations == ("full", "mid", "fast")


def test_closed_engine_refuses_everything():
    engine = _engine()
    engine.close()
    engine.close()
    with pytest.raises(ClosedError, match="was closed"):
        engine(X)
    with pytest.raises(ClosedError, match="was closed"):
        engine.pin("full")
    with pytest.raises(ClosedError, match="was closed"):
        engine.restore("full")
    with pytest.raises(ClosedError, match="was closed"):
        engine.budget = None


def test_close_frees_every_engine_and_then_the_backend():
    backend = CountingBackend()
    AdaptiveEngine(POINTS, INPUTS, backend).close()
    assert backend.closed == ["fast", "mid", "full", "backend"]


def test_failing_load_names_the_configuration_and_frees_the_others():
    backend = CountingBackend({"full": 1.0, "mid": 1.0})
    with pytest.raises(EngineError, match="no latency for graph 'fast'"):
        AdaptiveEngine(POINTS, INPUTS, backend)
    assert backend.closed == ["mid", "full", "backend"]


def test_failing_load_is_named_when_the_backend_does_not_say_which():
    class Forgetful(NullBackend):
        def load(self, graph):
            raise EngineError("no memory.")

    with pytest.raises(EngineError, match=r"'full' could not be loaded: no memory\."):
        AdaptiveEngine(POINTS, INPUTS, Forgetful(TABLED_MS, _y))


def test_failing_warm_up_names_the_configuration():
    def outputs(name, _inputs):
        if name == "mid":
            raise EngineError("boom")
        return {}

    backend = CountingBackend(outputs=outputs)
    with pytest.raises(EngineError, match="configuration 'mid' could not be loaded: boom"):
        AdaptiveEngine(POINTS, INPUTS, backend)
    assert backend.closed == ["mid", "full", "backend"]


def test_wrong_option_frees_the_backend():
    backend = CountingBackend()
    with pytest.raises(ChoiceError, match="nan='x'"):
        AdaptiveEngine(POINTS, INPUTS, backend, nan="x")
    assert backend.closed == ["backend"]


@pytest.mark.parametrize("points", [(), (POINTS[0], POINTS[0])])
def test_points_need_one_name_each(points):
    with pytest.raises(ChoiceError, match="a name each and at least one"):
        AdaptiveEngine(points, INPUTS, NullBackend(TABLED_MS, _y))


def test_every_configuration_is_warmed_up_at_the_typical_batch():
    shapes = []

    def outputs(name, inputs):
        shapes.append((name, inputs["x"].shape))
        return {}

    inputs = (TensorSpec("x", "float32", ("N", 4)),)
    with _engine(
        outputs=outputs, inputs=inputs, dimensions=(Dimension("N", 1, 2, 8),), warm_up_runs=1
    ):
        assert shapes == [("full", (2, 4)), ("mid", (2, 4)), ("fast", (2, 4))]


def test_warm_up_sets_the_scale_when_there_is_no_table():
    points = [
        OperatingPoint(name, ms, ms, ms, source="macs") for name, ms in TABLED_MS.items()
    ]
    clock = FakeClock()
    latencies_ms = {name: 50 * ms for name, ms in TABLED_MS.items()}
    backend = NullBackend(latencies_ms, _y, clock)
    with AdaptiveEngine(
        points, INPUTS, backend, clock=clock, budget=Budget(latency_ms=260)
    ) as engine:
        assert engine.stats().slowdown == pytest.approx(50.0)
        assert engine.stats().calls == 0
        engine(X)
        assert engine.last.configuration == "mid"


def test_calls_from_several_threads_run_at_the_same_time():
    together = threading.Barrier(4, timeout=30)

    def outputs(_name, _inputs):
        together.wait()  # passes only if four calls are inside at once
        return {"y": np.zeros(1)}

    with _engine(outputs=outputs) as engine, ThreadPoolExecutor(4) as pool:
        list(pool.map(engine, [X] * 8))
        assert engine.stats().calls == 8


def test_counts_are_exact_under_many_threads():
    with _engine(budget=Budget(latency_ms=7)) as engine, ThreadPoolExecutor(8) as pool:
        list(pool.map(engine, [X] * 400))
        stats = engine.stats()
    assert stats.calls == 400
    assert sum(entry.calls for entry in stats.configurations) == 400


def test_close_waits_for_the_calls_in_flight():
    inside, release = threading.Event(), threading.Event()
    backend = CountingBackend()

    def outputs(_name, _inputs):
        inside.set()
        assert release.wait(30)
        assert backend.closed == []
        return {"y": np.zeros(1)}

    backend._outputs = outputs
    engine = AdaptiveEngine(POINTS, INPUTS, backend, warm_up_runs=0)
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(engine, X)
        assert inside.wait(30)
        closing = pool.submit(engine.close)
        while not engine._closed:
            threading.Event().wait(0.001)
        with pytest.raises(ClosedError):
            engine(X)
        assert not closing.done()
        release.set()
        closing.result(30)
        assert call.result(30).shape == (1,)
    assert backend.closed[-1] == "backend"


def test_a_refused_call_is_none_for_the_pace():
    clock = FakeClock()
    point = OperatingPoint("one", 0.9, 10.0, 10.0, 10.0, energy_mj=100.0)
    backend = NullBackend({"one": 10.0}, {"y": np.zeros(1)}, clock)
    budget = Budget(power_w=2.0, window_s=1.0)
    with AdaptiveEngine(
        [point], INPUTS, backend, clock=clock, warm_up_runs=0, budget=budget, strict=True
    ) as engine:
        ran = 0
        for _ in range(3000):
            try:
                engine(X)
                ran += 1
            except BudgetError:
                clock.advance_ms(1)
            if engine.last is not None and ran % 2 == 0:
                clock.advance_ms(40)
    assert ran > 50


def test_what_calls_are_expected_to_take_is_known_before_them():
    takes_ms = {"full": 16.0, "mid": 10.0, "fast": 4.0}
    with _engine(takes_ms, ranked_by="accuracy") as engine:
        assert engine.predict_ms() == pytest.approx({"full": 10.0, "mid": 6.0, "fast": 3.0})
        engine.budget = Budget(min_accuracy=0.93, quantile=0.5)
        assert engine.predict_ms() == pytest.approx({"full": 8.0, "mid": 5.0})
        engine.pin("fast")
        assert engine.predict_ms() == pytest.approx({"fast": 2.0})
        for _ in range(30):
            engine(X)
        assert engine.predict_ms()["fast"] == pytest.approx(4.0, rel=0.02)
        with pytest.raises(InputError, match="there is no free dimension 'N'"):
            engine.predict_ms({"N": 2})


def test_calls_of_other_sizes_are_expected_to_take_more():
    inputs = (TensorSpec("x", "float32", ("N", 4)),)
    free = [Dimension("N", 1, 1, 8)]
    with _engine(inputs=inputs, dimensions=free) as engine:
        assert engine.predict_ms({"N": 4})["fast"] == pytest.approx(4 * 3.0)
