from __future__ import annotations

import sys
import threading
from types import ModuleType

import numpy as np
import pytest

from skipc.runtime import (
    AdaptiveEngine,
    BackendError,
    Budget,
    BudgetError,
    Bundle,
    BundleError,
    Dimension,
    FakeClock,
    FormatError,
    MeterError,
    StaleEngineError,
    TensorSpec,
    backends,
)
from skipc.runtime.bundle.device import this_device
from skipc.runtime.bundle.measured import table_key
from tests.bundles import edit_json, write_bundle, write_engines
from tests.runtime.faulty import CountingBackend

FRONT = {
    "full": {"accuracy": 0.95, "latency_ms": 9.0},
    "mid": {"accuracy": 0.93, "latency_ms": 6.0},
    "fast": {"accuracy": 0.90, "latency_ms": 3.0},
}
X = np.zeros((1, 3, 4, 4), np.float32)


def test_open_uses_the_only_engines_there(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path, "cpu")
    with AdaptiveEngine.open(path, budget=Budget(latency_ms=10)) as engine:
        assert engine(X).shape == (1, 10)
        assert engine.last.configuration == "mid"
        stats = engine.stats()
        assert stats.ranked_by == "accuracy"
        assert {entry.source for entry in stats.configurations} == {"table"}


def test_open_names_the_command_when_there_are_no_engines(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    with pytest.raises(BundleError, match=r"skipc finish .*toy\.skipc` on the device"):
        AdaptiveEngine.open(path)


def test_open_of_target_null_needs_no_engines(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc", metrics=FRONT)
    with AdaptiveEngine.open(path, Budget(latency_ms=7), "null") as engine:
        logits = engine(X)
        assert (logits.shape, logits.dtype) == ((1, 10), np.float32)
        assert not logits.any()
        assert (engine.last.configuration, engine.last.latency_ms) == ("mid", 6.0)
        assert {entry.source for entry in engine.stats().configurations} == {"front"}


def test_open_of_target_null_derives_latencies_from_macs(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    clock = FakeClock()
    with AdaptiveEngine.open(path, target="null", clock=clock) as engine:
        before_ns = clock.now_ns()
        engine(X)
        assert clock.now_ns() > before_ns
        assert {entry.source for entry in engine.stats().configurations} == {"macs"}


def test_open_of_target_null_follows_the_batch(tmp_path):
    path = write_bundle(
        tmp_path / "toy.skipc",
        inputs=[TensorSpec("ids", "int64", ("N", 5))],
        outputs=[TensorSpec("y", "float32", ("N", 2)), TensorSpec("z", "float32", ("N",))],
        dimensions=(Dimension("N", 1, 2, 8),),
    )
    with AdaptiveEngine.open(path, target="null") as engine:
        outputs = engine(np.zeros((7, 5), np.int64))
    assert {name: array.shape for name, array in outputs.items()} == {"y": (7, 2), "z": (7,)}


def test_open_lists_the_targets_when_the_one_asked_for_is_missing(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path, "cpu")
    with pytest.raises(BundleError, match=r"for the target 'cpus'\. Did you mean 'cpu'"):
        AdaptiveEngine.open(path, target="cpus")


def test_open_names_the_backends_when_one_is_unknown(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path, "cpu", backend="tensort")
    with pytest.raises(
        BackendError, match=r"needs the backend 'tensort', which.*Did you mean 'tensorrt'"
    ):
        AdaptiveEngine.open(path)


@pytest.fixture
def stale(monkeypatch):
    """A backend module whose engines are always for another host."""
    module = ModuleType("skipc_test_stale")

    def open_stale(*_):
        raise StaleEngineError("built for another CPU.")

    module.open_backend = open_stale
    monkeypatch.setitem(sys.modules, "skipc_test_stale", module)
    monkeypatch.setitem(backends._MODULES, "stale", "skipc_test_stale")


@pytest.mark.usefixtures("stale")
def test_open_takes_the_engines_that_fit_this_host_of_several(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path, "aaa-board", backend="stale")
    write_engines(path, "cpu")
    with AdaptiveEngine.open(path) as engine:
        assert engine.stats().backend == "null"


@pytest.mark.usefixtures("stale")
def test_open_gives_every_reason_when_no_engines_fit(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path, "one", backend="stale")
    write_engines(path, "two", backend="stale")
    with pytest.raises(
        StaleEngineError, match=r"no engines fit this host\. one: built.* two: bu"
    ):
        AdaptiveEngine.open(path)


@pytest.fixture
def counting(monkeypatch):
    """A backend that notes that it was closed, by the name ``counting``."""
    backend = CountingBackend()
    module = ModuleType("skipc_test_counting")
    module.open_backend = lambda *_: backend
    monkeypatch.setitem(sys.modules, "skipc_test_counting", module)
    monkeypatch.setitem(backends._MODULES, "counting", "skipc_test_counting")
    return backend


def test_open_frees_the_backend_when_the_measured_table_is_damaged(tmp_path, counting):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path, backend="counting")
    bundle = Bundle.open(path)
    file = path / table_key(bundle, bundle.engine_set(), this_device(), 1).path()
    file.parent.mkdir()
    file.write_text("{")
    with pytest.raises(FormatError, match="not valid JSON"):
        AdaptiveEngine.open(path, meter="model:5")
    assert counting.closed == ["backend"]
    assert [thread.name for thread in threading.enumerate() if "meter" in thread.name] == []


def test_open_frees_the_backend_when_there_is_no_such_meter(tmp_path, counting):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path, backend="counting")
    with pytest.raises(MeterError, match="unknown meter 'modle:5'"):
        AdaptiveEngine.open(path, meter="modle:5")
    assert counting.closed == ["backend"]


@pytest.mark.parametrize("target", [5, "", ["cpu"]])
def test_open_refuses_a_target_that_is_no_name(tmp_path, target):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path)
    with pytest.raises(BundleError, match="is not a target's name, such as 'cpu'"):
        AdaptiveEngine.open(path, target=target)


def test_open_refuses_a_meter_that_is_no_text(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    with pytest.raises(MeterError, match=r"meter=5 is not a text, such as 'auto' or 'rapl'"):
        AdaptiveEngine.open(path, target="null", meter=5)


def test_open_of_target_null_meters_on_the_clock_that_its_calls_move(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc", metrics=FRONT)
    with AdaptiveEngine.open(path, target="null", meter="model:5") as engine:
        sampler = engine._control.metering._source
        engine(X)
        sampler.poll()
        warm_up_ms = 2 * (9.0 + 6.0 + 3.0)
        assert sampler.latest.energy_mj == pytest.approx(5.0 * (warm_up_ms + 9.0))
        assert engine.stats().meter_estimated


def test_open_refuses_a_bare_number_as_budget(tmp_path):
    with pytest.raises(BudgetError, match="budget=5 is not a Budget"):
        AdaptiveEngine.open(tmp_path, budget=5)


def _with_larger_images(document):
    for each in (document, *document["graphs"]):
        each["inputs"][0].update(shape=[1, 3, 8, 8])


def test_open_checks_the_golden_inputs_it_warms_up_with(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    edit_json(path / "manifest.json", _with_larger_images)
    with pytest.raises(
        BundleError, match=r"inputs\.npz: '0/images' is float32 1x3x4x4, expect"
    ):
        AdaptiveEngine.open(path, target="null")
