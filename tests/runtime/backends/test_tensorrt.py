"""The TensorRT backend on doubles of TensorRT and CUDA; see tests/doubles."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.targets import finish
from skipc.runtime import AdaptiveEngine, Budget, Dimension
from skipc.runtime.backends import open_backend
from skipc.runtime.backends.cuda.device_arrays import DeviceArray
from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import (
    BackendError,
    BackendUnavailableError,
    ChoiceError,
    EngineError,
    InputError,
    IntegrityError,
    StaleEngineError,
)
from tests.bundles import edit_json
from tests.doubles.gpu import FakeGpu, fake_gpu
from tests.onnx_bundles import (
    conv_family,
    image_cases,
    token_cases,
    token_family,
    write_onnx_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    with fake_gpu(monkeypatch) as made:
        yield made
        made.check()


@pytest.fixture
def bundle(tmp_path: Path, gpu: FakeGpu) -> Bundle:
    write_onnx_bundle(tmp_path / "conv.skipc", conv_family(blocks=2), image_cases((2, 3)))
    finish(tmp_path / "conv.skipc", "tensorrt")
    return Bundle.open(tmp_path / "conv.skipc")


def images(batch: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(batch, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("version", [("10.3.0", False), ("10.16.1.11", True)])
def test_every_configuration_gives_the_golden_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[str, bool]
) -> None:
    path = tmp_path / "tokens.skipc"
    write_onnx_bundle(path, token_family(layers=2), token_cases())
    with fake_gpu(monkeypatch, version=version[0], addresses=version[1]) as gpu:
        finish(path, "tensorrt")
        opened = Bundle.open(path)
        with AdaptiveEngine.open(path) as engine:
            for name in engine.configurations:
                engine.pin(name)
                cases = zip(opened.golden_inputs(), opened.golden_outputs(name), strict=True)
                for inputs, expected in cases:
                    found = engine(inputs)
                    assert found.keys() == expected.keys()
                    for tensor, array in expected.items():
                        assert found[tensor].dtype == array.dtype
                        np.testing.assert_allclose(found[tensor], array, rtol=1e-5, atol=1e-6)
        gpu.check()


def test_switching_launches_another_graph_and_enqueues_nothing_else(
    bundle: Bundle, gpu: FakeGpu
) -> None:
    backend = open_backend(bundle, bundle.engine_set())
    engines = [backend.load(name) for name in ("skip0", "skip1", "skip2")]
    typical = images(1)
    for engine in engines:
        engine.run({"images": typical})
    calls = gpu.device.calls
    for engine in engines:
        engine.run({"images": typical})
    assert gpu.device.calls - calls == 2 * len(engines)  # one launch, one synchronisation
    calls = gpu.device.calls
    engines[0].run({"images": images(3)})
    assert gpu.device.calls - calls == 4  # copy in, engine, copy out, synchronisation
    assert backend.sharing().threads == "one stream"
    for engine in engines:
        engine.close()
    backend.close()


def test_an_empty_graph_is_noticed_and_not_used(
    bundle: Bundle, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.device.drop_captured = True
    with caplog.at_level(logging.WARNING), AdaptiveEngine.open(bundle.path) as engine:
        first, second = engine(images(1)), engine(images(1, seed=1))
        assert not np.allclose(first, second)
        assert "skip0: the captured graph is empty" in engine.stats().sharing.threads
    assert "'skip0' has no CUDA graph: the captured graph is empty" in caplog.text


def test_limited_memory_loads_in_the_background_and_says_so(
    bundle: Bundle, gpu: FakeGpu
) -> None:
    sizes = {e.graph: e.device_bytes for e in bundle.engine_set().engines}
    limit = sizes["skip0"] + sizes["skip2"]
    with AdaptiveEngine.open(bundle.path, device_bytes=limit) as engine:
        held = sum(gpu.device._engines.values())
        assert held <= limit
        for index in range(200):
            engine(images(1, seed=index))
            assert engine.last is not None
            if engine.last.configuration == "skip0":
                break
        assert engine.last.configuration == "skip0"
        assert engine.stats().residency.waits == 0
        engine.pin("skip1")
        engine(images(1))
        assert engine.last.reason.startswith("The call waits while the engine is loaded:")
        assert engine.stats().residency.waits == 1
        assert engine.stats().residency.evictions > 0


def test_a_device_that_is_too_small_is_a_clear_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [entry.device_bytes for entry in bundle.engine_set().engines]
    with fake_gpu(monkeypatch, memory_bytes=max(sizes)) as small:
        with pytest.raises(
            BackendError, match=r"'skip0': no device memory left for its engine"
        ):
            AdaptiveEngine.open(bundle.path)
        small.check()
    with fake_gpu(monkeypatch, memory_bytes=600) as tiny:
        with pytest.raises(
            BackendError, match=r"cudaMalloc failed: cudaErrorMemoryAllocation"
        ):
            AdaptiveEngine.open(bundle.path)
        tiny.check()


def test_out_of_memory_makes_another_engine_leave(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {e.graph: e.device_bytes for e in bundle.engine_set().engines}
    room = sizes["skip0"] + 20_000  # workspace and buffers at batch 8
    with fake_gpu(monkeypatch, memory_bytes=room) as gpu:
        with AdaptiveEngine.open(bundle.path, budget=Budget()) as engine:
            for name in ("skip0", "skip1", "skip0", "skip2"):
                engine.pin(name)
                assert engine(images(1)).shape == (1, 10)
            assert engine.stats().residency.evictions > 0
        gpu.check()


class OnGpu:
    """An array in device memory, as a GPU library's user holds it."""

    def __init__(self, gpu: FakeGpu, array: NDArray[np.generic], stream: int | None = None):
        self.gpu, self.shape, self.dtype = gpu, array.shape, array.dtype
        self.address = gpu.device.malloc(array.nbytes)
        gpu.device.view(self.address, array.nbytes)[:] = array.reshape(-1).view(np.uint8)
        self.stream = stream
        self.strides: tuple[int, ...] | None = None

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": self.strides,
            "stream": self.stream,
        }

    def free(self) -> None:
        self.gpu.device.free(self.address)


def test_arrays_on_the_gpu_are_read_where_they_lie(bundle: Bundle, gpu: FakeGpu) -> None:
    with AdaptiveEngine.open(bundle.path) as engine:
        array = images(2)
        expected = engine(array)
        given = OnGpu(gpu, array, stream=gpu.device.new_stream())
        copies = gpu.cudart.copies
        found = engine(given)
        assert gpu.cudart.copies == copies
        assert isinstance(found, DeviceArray)
        data = gpu.device.view(found.address, found.nbytes).view(found.dtype)
        np.testing.assert_allclose(data.reshape(found.shape), expected, rtol=1e-6)
        assert found.__cuda_array_interface__["shape"] == (2, 10)
        # Neither a call with arrays of the host nor another engine's loading touches it.
        np.testing.assert_array_equal(engine(array), expected)
        assert np.array_equal(data, gpu.device.view(found.address, found.nbytes).view("f4"))
        given.strides = (1, 1, 1, 1)
        with pytest.raises(InputError, match=r"'images' is not contiguous"):
            engine(given)
        given.strides = None
        given.address += 4
        given.shape = (2, 3, 8, 7)
        with pytest.raises(InputError, match=r"'images' has the shape"):
            engine(given)
        given.address -= 4
        given.shape = (2, 3, 8, 4)
        with pytest.raises(InputError, match=r"has the shape \(2, 3, 8, 4\)"):
            engine(given)
        given.free()
        assert given.stream is not None
        gpu.device.free_stream(given.stream)


def test_an_array_that_is_not_aligned_is_copied_on_the_gpu(
    bundle: Bundle, gpu: FakeGpu
) -> None:
    with AdaptiveEngine.open(bundle.path) as engine:
        padded = np.concatenate([np.zeros((1, 3, 8, 8), np.float32), images(1)])
        given = OnGpu(gpu, padded)
        given.shape, given.address = (1, 3, 8, 8), given.address + 3 * 64 * 4
        expected = engine(images(1))
        assert given.address % 256 == 0
        assert engine(given).shape == (1, 10)
        given.address -= 3 * 64 * 4
        shifted = OnGpu(gpu, np.concatenate([np.zeros(1, np.float32), images(1).ravel()]))
        shifted.shape, shifted.address = (1, 3, 8, 8), shifted.address + 4
        found = engine(shifted)
        data = gpu.device.view(found.address, found.nbytes).view(found.dtype)
        np.testing.assert_allclose(data.reshape(1, 10), expected, rtol=1e-6)
        shifted.address -= 4
        shifted.free()
        given.free()


def test_another_library_as_current_device_is_left_as_it_was(
    bundle: Bundle, gpu: FakeGpu
) -> None:
    gpu.cudart.current = 1
    with AdaptiveEngine.open(bundle.path) as engine:
        engine(images(1))
    assert gpu.cudart.current == 1


def test_a_plan_that_is_gone_is_an_error_also_in_the_background(
    bundle: Bundle, gpu: FakeGpu
) -> None:
    sizes = {e.graph: e.device_bytes for e in bundle.engine_set().engines}
    limit = sizes["skip0"] + sizes["skip2"]
    with AdaptiveEngine.open(bundle.path, device_bytes=limit) as engine:
        entry = bundle.engine_set().engine("skip0")
        (bundle.engine_dir("tensorrt") / entry.file).unlink()
        for index in range(1000):
            engine(images(1, seed=index))
            if engine.stats().bad:
                break
        assert "cannot be loaded" in engine.stats().bad["skip0"]
        assert engine(images(1)).shape == (1, 10)
        engine.pin("skip0")
        with pytest.raises(EngineError, match=r"'skip0'.*cannot be loaded"):
            engine(images(1))


def test_gpu_arrays_are_refused_where_they_cannot_be_read(
    bundle: Bundle, gpu: FakeGpu
) -> None:
    given = OnGpu(gpu, images(1))
    finish(bundle.path, "cpu")
    with (
        AdaptiveEngine.open(bundle.path, target="cpu") as engine,
        pytest.raises(InputError, match=r"lies on the GPU, but this engine runs on the CPU"),
    ):
        engine(given)
    with (
        AdaptiveEngine.open(bundle.path, target="tensorrt", nan="raise") as engine,
        pytest.raises(InputError, match=r"lies on the GPU, where nan='raise' cannot look"),
    ):
        engine(given)
    given.free()


def test_inputs_in_two_places_are_refused(tmp_path: Path, gpu: FakeGpu) -> None:
    path = tmp_path / "tokens.skipc"
    write_onnx_bundle(path, token_family(layers=1), token_cases())
    finish(path, "tensorrt")
    inputs = Bundle.open(path).golden_inputs()[0]
    given = OnGpu(gpu, inputs["tokens"])
    with (
        AdaptiveEngine.open(path) as engine,
        pytest.raises(InputError, match=r"'mask' lies on the host and another on the GPU"),
    ):
        engine({"tokens": given, "mask": inputs["mask"]})
    given.free()


def test_engines_of_another_version_or_gpu_are_stale(bundle: Bundle, gpu: FakeGpu) -> None:
    gpu.tensorrt.__version__ = "10.16.1"
    with pytest.raises(StaleEngineError, match=r"tensorrt was 10\.3\.0, here it is 10\.16\.1"):
        AdaptiveEngine.open(bundle.path)
    gpu.tensorrt.__version__ = "10.3.0"
    gpu.cudart.capability = (11, 0)
    with pytest.raises(
        StaleEngineError, match=r"compute_capability was 8\.7, here it is 11\.0"
    ):
        AdaptiveEngine.open(bundle.path)


def test_missing_libraries_are_named(bundle: Bundle) -> None:
    # Undone before the GPU's own patches are.
    with pytest.MonkeyPatch.context() as inner:
        inner.setitem(sys.modules, "tensorrt", None)
        inner.setitem(sys.modules, "tensorrt_bindings", None)
        with pytest.raises(
            BackendUnavailableError, match="'tensorrt', which is not installed"
        ):
            AdaptiveEngine.open(bundle.path)


def test_options_of_the_cpu_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ChoiceError, match="threads=2: engines of target 'tensorrt' run on"):
        AdaptiveEngine.open(bundle.path, threads=2)
    with pytest.raises(ChoiceError, match="device_bytes=0: expected a whole number"):
        AdaptiveEngine.open(bundle.path, device_bytes=0)
    finish(bundle.path, "cpu")
    with pytest.raises(
        ChoiceError, match="device_bytes=5: engines of target 'cpu' run on the"
    ):
        AdaptiveEngine.open(bundle.path, target="cpu", device_bytes=5)


def test_damaged_plan_is_an_error_that_names_it(bundle: Bundle) -> None:
    entry = bundle.engine_set().engine("skip1")
    file = bundle.engine_dir("tensorrt") / entry.file
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(
        EngineError, match=r"'skip1': TensorRT cannot load .*skip1.*serializat"
    ):
        AdaptiveEngine.open(bundle.path)


def test_plan_that_needs_more_than_the_listed_workspace_is_refused(bundle: Bundle) -> None:
    def shrink(document: dict[str, list[dict[str, object]]]) -> None:
        for engine in document["engines"]:
            engine["workspace_bytes"] = 1

    edit_json(bundle.engine_dir("tensorrt") / "engines.json", shrink)
    with pytest.raises(
        IntegrityError, match=r"needs a workspace of \d+ bytes, more than the 1"
    ):
        AdaptiveEngine.open(bundle.path)


def test_plan_of_another_network_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    folder = bundle.engine_dir("tensorrt")
    engines = bundle.engine_set()
    write_onnx_bundle(
        tmp_path / "small.skipc", conv_family(blocks=2, size=4), image_cases(size=4)
    )
    finish(tmp_path / "small.skipc", "tensorrt")
    other = Bundle.open(tmp_path / "small.skipc")
    plan = other.engine_dir("tensorrt") / other.engine_set().engine("skip1").file
    file = folder / engines.engine("skip1").file
    file.write_bytes(plan.read_bytes())

    def list_anew(document: dict[str, list[dict[str, object]]]) -> None:
        entry = next(entry for entry in document["files"] if entry["path"] == file.name)
        entry["size_bytes"] = file.stat().st_size

    edit_json(folder / "engines.json", list_anew)
    with pytest.raises(
        EngineError, match=r"'skip1': the engine's tensor 'images' is not as the manifest"
    ):
        AdaptiveEngine.open(bundle.path)


def test_a_failing_gpu_call_names_the_configuration(bundle: Bundle, gpu: FakeGpu) -> None:
    with AdaptiveEngine.open(bundle.path) as engine:
        engine.pin("skip0")
        gpu.device.fail_at = 0
        with pytest.raises(
            EngineError, match=r"'skip0': the GPU failed: cudaGraphLaunch failed"
        ):
            engine(images(1))
        assert engine(images(1)).shape == (1, 10)


def test_free_dimensions_beside_the_batch_have_room_and_their_own_sizes(
    tmp_path: Path, gpu: FakeGpu
) -> None:
    weights = numpy_helper.from_array(np.ones((4, 2, 3), np.float32), "w")
    conv = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2], pads=[1, 1])
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 2, "T"]), ("y", ["N", 4, "(T-1)//2+1"]))
    )
    graph = helper.make_graph([conv], "full", [x], [y], [weights])
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    random = np.random.default_rng(0)
    sizes = (1, 6), (1, 4), (3, 11)
    cases = [{"x": random.normal(size=(n, 2, t)).astype(np.float32)} for n, t in sizes]
    free = (Dimension("N", 1, 1, 3), Dimension("T", 4, 6, 11))
    opened = write_onnx_bundle(tmp_path / "b.skipc", {"full": model}, cases, free)
    finish(opened.path, "tensorrt")
    (entry,) = opened.engine_set("tensorrt").engines
    assert [tuple(row.sizes.values()) for row in entry.by_size] == [
        *((1, 4), (3, 6), (1, 11), (3, 11)),
    ]
    with AdaptiveEngine.open(opened.path) as engine:
        for inputs, expected in zip(cases, opened.golden_outputs("full"), strict=True):
            assert np.array_equal(engine(inputs["x"]), expected["y"])
