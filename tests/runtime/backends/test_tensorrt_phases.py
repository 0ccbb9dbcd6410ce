"""A call taken apart, and calls made other ways, on doubles of TensorRT and CUDA."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from skipc.compiler.targets import finish
from skipc.runtime.backends import open_backend
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.backends.phases import Phases, Wait, Way
from skipc.runtime.backends.tensorrt.backend import phased_backend
from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import BackendError, ClosedError, InputError
from skipc.runtime.load.opening import family_of
from tests.doubles.gpu import FakeGpu, fake_gpu
from tests.onnx_bundles import conv_family, image_cases, write_onnx_bundle
from tests.runtime.backends.test_cuda import install_pycuda

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.doubles.device import FakeDevice

IMAGES = {"images": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
LARGER = {"images": np.zeros((3, 3, 8, 8), np.float32)}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    with fake_gpu(monkeypatch) as made:
        yield made
        made.check()


@pytest.fixture
def bundle(tmp_path: Path, gpu: FakeGpu) -> Bundle:
    write_onnx_bundle(tmp_path / "conv.skipc", conv_family(blocks=1), image_cases((2, 3)))
    finish(tmp_path / "conv.skipc", "tensorrt")
    return Bundle.open(tmp_path / "conv.skipc")


@pytest.fixture
def backend(bundle: Bundle) -> Iterator[Any]:
    opened = open_backend(bundle, bundle.engine_set())
    yield opened
    opened.close()


@pytest.fixture
def engine(backend: Any) -> Iterator[Any]:
    loaded = backend.load("skip0")
    yield loaded
    loaded.close()


def counter() -> Any:
    """Returns a clock that moves on by 1 ns whenever it is read."""
    return itertools.count().__next__


def phases_of(engine: Any, inputs: Any, way: Way, device: FakeDevice) -> tuple[Phases, list]:
    """Returns the phases of a second call, and what it did on the device."""
    engine.run_in_phases(inputs, way, counter())
    device.history.clear()
    return engine.run_in_phases(inputs, way, counter()), list(device.history)


COPY, EVENT = "enqueue", "record"
LAUNCH = "launch 1"  # of a graph with one operation: neither copy is in it
TAKEN_APART = {
    "as the runtime": (Way(), [EVENT, COPY, EVENT, LAUNCH, EVENT, COPY, EVENT, "synchronize"]),
    "no graph": (
        Way(graph=False),
        [EVENT, COPY, EVENT, "enqueue", EVENT, COPY, EVENT, "synchronize"],
    ),
    "no transfers": (
        Way(transfers=False),
        [COPY, "synchronize", EVENT, LAUNCH, EVENT, EVENT, "synchronize"],
    ),
    "spin": (
        Way(wait=Wait.SPIN),
        [EVENT, COPY, EVENT, LAUNCH, EVENT, COPY, EVENT, "wait spinning"],
    ),
    "block": (
        Way(wait=Wait.BLOCK),
        [EVENT, COPY, EVENT, LAUNCH, EVENT, COPY, EVENT, "wait blocking"],
    ),
}


@pytest.mark.parametrize("case", TAKEN_APART)
def test_events_lie_between_the_phases(engine: Any, gpu: FakeGpu, case: str) -> None:
    way, expected = TAKEN_APART[case]
    found, history = phases_of(engine, IMAGES, way, gpu.device)
    assert history == expected
    copies_ms = gpu.device.op_ms if way.transfers else 0
    assert (found.h2d_ms, found.compute_ms, found.d2h_ms) == (copies_ms, 0.25, copies_ms)
    assert (found.start_ns, found.enqueue_start_ns, found.enqueue_end_ns) == (0, 1, 2)
    assert found.graph == way.graph


def test_a_batch_that_no_graph_was_captured_for_is_enqueued(engine: Any, gpu: FakeGpu) -> None:
    found, history = phases_of(engine, LARGER, Way(), gpu.device)
    assert not found.graph
    assert history[3] == "enqueue"


def test_measuring_leaves_the_runtimes_own_calls_alone(engine: Any, gpu: FakeGpu) -> None:
    before = engine.run(IMAGES)["logits"]
    engine.run_in_phases(IMAGES, Way(), counter())
    gpu.device.history.clear()
    np.testing.assert_array_equal(engine.run(IMAGES)["logits"], before)
    assert gpu.device.history == ["launch 3", "synchronize"]


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (Way(graph=False), ["enqueue", "enqueue", "enqueue", "synchronize"]),
        (Way(wait=Wait.SPIN), ["launch 3", "record", "wait spinning"]),
        (Way(wait=Wait.BLOCK), ["launch 3", "record", "wait blocking"]),
    ],
)
def test_calls_made_another_way_give_the_same(
    engine: Any, gpu: FakeGpu, way: Way, expected: list[str]
) -> None:
    usual = engine.run(IMAGES)["logits"]
    other = engine.made(way)
    other.run(IMAGES)
    gpu.device.history.clear()
    np.testing.assert_allclose(other.run(IMAGES)["logits"], usual, rtol=1e-6)
    assert gpu.device.history == expected


def test_calls_without_transfers_take_what_was_uploaded(
    backend: Any, engine: Any, gpu: FakeGpu
) -> None:
    other = engine.made(Way(transfers=False))
    with pytest.raises(InputError, match="Upload the inputs"):
        other.run(IMAGES)
    uploaded = backend.upload(IMAGES)
    usual = engine.run(IMAGES)["logits"]
    found = other.run(uploaded)["logits"]
    on_host = gpu.device.view(found.address, found.nbytes).view(np.float32)
    np.testing.assert_allclose(on_host.reshape(found.shape), usual, rtol=1e-6)


@pytest.mark.parametrize("way", [Way(), Way(wait=Wait.BLOCK), Way(graph=False)])
def test_a_failure_at_any_step_leaves_nothing_enqueued(
    bundle: Bundle, gpu: FakeGpu, way: Way
) -> None:
    """From capturing and making events, in the first call, to reading the times."""
    failures = 0
    for step in itertools.count():
        backend: Any = open_backend(bundle, bundle.engine_set())
        engine = backend.load("skip0")
        expected = engine.run(IMAGES)["logits"]
        gpu.device.fail_at = step
        try:
            engine.run_in_phases(IMAGES, way, counter())
        except BackendError:
            failures += 1
        reached = gpu.device.fail_at is None
        gpu.device.fail_at = None
        assert all(not ops for ops in gpu.device._streams.values())
        assert engine.run_in_phases(IMAGES, way, counter()).compute_ms == 0.25
        np.testing.assert_allclose(engine.run(IMAGES)["logits"], expected, rtol=1e-6)
        engine.close()
        backend.close()
        del engine, backend
        gpu.check()
        if not reached:
            break
    assert failures >= 10


def test_a_failed_upload_leaves_nothing_enqueued(bundle: Bundle, gpu: FakeGpu) -> None:
    for step in range(4):  # copy in, memory, copy on the device, waiting
        backend: Any = open_backend(bundle, bundle.engine_set())
        gpu.device.fail_at = step
        with pytest.raises(BackendError):
            backend.upload(IMAGES)
        if step == 3:
            backend.upload(IMAGES)  # drains what the failed wait left
        assert all(not ops for ops in gpu.device._streams.values())
        backend.close()
        gpu.check()


def test_an_engine_that_leaves_takes_its_graph_along(bundle: Bundle, gpu: FakeGpu) -> None:
    engines = bundle.engine_set()
    size = max(entry.device_bytes for entry in engines.engines)
    backend: Any = open_backend(bundle, engines)
    held = family_of(bundle, engines, size).residency(backend.load)
    for _ in range(2):
        for name in ("skip0", "skip1"):
            held.load(name)
            assert held._items[name].run_in_phases(IMAGES, Way(), counter()).graph
    assert held.counts.evictions == 3
    held.close()
    backend.close()


def test_a_graph_that_cannot_be_had_is_told_once(
    engine: Any, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.device.drop_captured = True
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert not engine.run_in_phases(IMAGES, Way(), counter()).graph
    assert caplog.text.count("'skip0' is measured without a CUDA graph: the captured") == 1


def test_pycuda_tells_phases_without_graphs(
    bundle: Bundle, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as inner:
        install_pycuda(inner, gpu.device)
        backend: Any = open_backend(bundle, bundle.engine_set())
        engine = backend.load("skip0")
        for wait in Wait:
            found = engine.run_in_phases(IMAGES, Way(wait=wait), counter())
            assert not found.graph
            assert (found.h2d_ms, found.compute_ms, found.d2h_ms) == (0.25, 0.25, 0.25)
        engine.close()
        backend.close()
        del engine, backend


@pytest.mark.usefixtures("engine")
def test_loading_is_told_apart_from_refitting(backend: Any, gpu: FakeGpu) -> None:
    times = backend.load_times("skip0")
    assert times.deserialize_ms > 0
    assert times.refit_ms is not None
    assert times.refit_ms > 0
    free = backend.device_free_bytes()
    assert free == gpu.device.memory_bytes - gpu.device.used_bytes


def test_only_backends_with_phases_say_so(backend: Any) -> None:
    assert phased_backend(backend) is backend
    assert phased_backend(NullBackend({}, {})) is None


def test_a_closed_engine_refuses_to_run(backend: Any) -> None:
    engine = backend.load("skip0")
    other = engine.made(Way(wait=Wait.SPIN))
    engine.close()
    for closed in (engine, other):
        with pytest.raises(ClosedError, match="graph 'skip0': the engine is closed"):
            closed.run(IMAGES)
