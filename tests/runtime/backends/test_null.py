from __future__ import annotations

import numpy as np
import pytest

from skipc.runtime import Bundle, EngineError, FakeClock
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.load.opening import bundle_backend
from tests.bundles import write_bundle, write_engines

Y = {"y": np.arange(3.0)}


def _latencies(script, calls):
    clock = FakeClock()
    engine = NullBackend({"a": script}, Y, clock).load("a")
    seen = []
    for _ in range(calls):
        before_ns = clock.now_ns()
        engine.run({})
        seen.append((clock.now_ns() - before_ns) / 1e6)
    return seen


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (2.5, [2.5, 2.5, 2.5]),
        ([1.0, 4.0], [1.0, 4.0, 4.0]),
        (lambda call: 10.0 * call, [0.0, 10.0, 20.0]),
    ],
)
def test_null_engine_moves_the_clock_by_the_script(script, expected):
    assert _latencies(script, 3) == expected


def test_null_engine_returns_arrays_of_the_callers_own():
    engine = NullBackend({"a": 1.0}, Y).load("a")
    engine.run({})["y"][:] = 7
    assert np.array_equal(engine.run({})["y"], np.arange(3.0))


def test_null_engine_computes_outputs_when_given_a_function():
    backend = NullBackend({"a": 1.0}, lambda name, given: {name: given["x"] + 1})
    assert backend.load("a").run({"x": np.zeros(2)})["a"].tolist() == [1.0, 1.0]


def test_null_backend_names_the_nearest_when_unknown():
    with pytest.raises(EngineError, match=r"no latency for graph 'ful'\. Did you mean"):
        NullBackend({"full": 1.0}, Y).load("ful")


def test_null_backend_refuses_an_empty_script():
    with pytest.raises(EngineError, match="latencies of graph 'a' are empty"):
        NullBackend({"a": []}, Y).load("a")


def test_engines_may_be_for_the_null_backend(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path)
    bundle = Bundle.open(path)
    backend, _, _ = bundle_backend(bundle, None, None, None)
    outputs = backend.load("mid").run(bundle.golden_inputs()[0])
    assert outputs["logits"].shape == (1, 10)
    assert outputs["logits"].dtype == np.float32
