"""The CUDA layer and arrays on the GPU, on doubles of both libraries."""

from __future__ import annotations

import logging
import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from skipc.compiler.targets import finish
from skipc.runtime import AdaptiveEngine
from skipc.runtime.backends.cuda import CudaError, Device, DeviceMemoryError, open_cuda
from skipc.runtime.backends.cuda.device_arrays import borrowed, is_device_array
from skipc.runtime.errors import BackendUnavailableError, InputError
from tests.doubles.cudart import cudaError_t
from tests.doubles.device import FakeDevice
from tests.doubles.gpu import fake_gpu
from tests.doubles.pycuda_driver import FakeContext, FakePyCuda
from tests.onnx_bundles import conv_family, image_cases, write_onnx_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from skipc.runtime.backends.cuda import Cuda


def install_pycuda(patch: pytest.MonkeyPatch, device: FakeDevice) -> FakePyCuda:
    driver = FakePyCuda(device)
    primary = ModuleType("pycuda.autoprimaryctx")
    primary.context = FakeContext(driver)  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "cuda.bindings.runtime", None)
    patch.setitem(sys.modules, "pycuda.driver", driver)
    patch.setitem(sys.modules, "pycuda.autoprimaryctx", primary)
    return driver


@pytest.fixture(params=["cuda-python", "pycuda"])
def both(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Cuda, FakeDevice]]:
    # Patches must be undone in the order opposite to that in which they were made.
    with (
        fake_gpu(monkeypatch, memory_bytes=10_000) as gpu,
        pytest.MonkeyPatch.context() as inner,
    ):
        if request.param == "pycuda":
            install_pycuda(inner, gpu.device)
        cuda = open_cuda()
        assert cuda.name == request.param
        yield cuda, gpu.device
        assert gpu.device.violations == []
        assert gpu.device.left() == []


def test_copies_there_and_back_through_pinned_memory(both: tuple[Cuda, FakeDevice]) -> None:
    cuda, _ = both
    stream, address, memory = cuda.new_stream(), cuda.malloc(256), cuda.malloc_host(256)
    memory[:] = np.arange(256, dtype=np.uint8)
    cuda.copy_to_device(address, memory, stream)
    cuda.synchronize(stream)
    memory[:] = 0
    cuda.copy_to_host(memory, address, stream)
    assert not memory.any()  # nothing happens before it is waited for
    cuda.synchronize(stream)
    np.testing.assert_array_equal(memory, np.arange(256))
    cuda.free(address)
    cuda.free_host(memory)
    cuda.free_stream(stream)


def test_one_stream_waits_for_another(both: tuple[Cuda, FakeDevice]) -> None:
    cuda, device = both
    first, second, ran = cuda.new_stream(), cuda.new_stream(), []
    device.enqueue(first, lambda: ran.append("first"))
    cuda.wait_for(second, first)
    device.enqueue(second, lambda: ran.append("second"))
    cuda.synchronize(second)
    assert ran == ["first", "second"]
    cuda.free_stream(first)
    cuda.free_stream(second)


def test_a_full_device_is_told_apart(both: tuple[Cuda, FakeDevice]) -> None:
    cuda, _ = both
    assert cuda.device() == Device("Fake GPU", "8.7", 10_000)
    with pytest.raises(DeviceMemoryError):
        cuda.malloc(20_000)
    address = cuda.malloc(6_000)
    assert cuda.free_bytes() == 4_000
    cuda.free(address)


def test_pycuda_waits_for_foreign_streams_and_captures_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = FakeDevice()
    install_pycuda(monkeypatch, device)
    cuda, ran = open_cuda(), []
    own, foreign = cuda.new_stream(), device.new_stream()
    device.enqueue(foreign, lambda: ran.append("foreign"))
    cuda.wait_for(own, foreign)
    assert ran == ["foreign"]
    with pytest.raises(CudaError, match="captures no graphs"):
        cuda.begin_capture(own)
    with pytest.raises(CudaError, match="captures no graphs"):
        cuda.end_capture(own)
    cuda.free_stream(own)
    device.free_stream(foreign)
    assert device.violations == []


def test_engines_run_with_pycuda_without_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "conv.skipc"
    write_onnx_bundle(path, conv_family(blocks=1), image_cases())
    with fake_gpu(monkeypatch) as gpu, pytest.MonkeyPatch.context() as inner:
        install_pycuda(inner, gpu.device)
        finish(path, "tensorrt")
        with caplog.at_level(logging.WARNING), AdaptiveEngine.open(path) as engine:
            assert engine(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 10)
            assert "skip0: pycuda captures none" in engine.stats().sharing.threads
        gpu.check()
    assert "'skip0' has no CUDA graph: pycuda captures none" in caplog.text


def test_without_any_library_the_right_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda.bindings.runtime", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        BackendUnavailableError, match=r"'cuda-bindings>=12\.6,<13'.*JetPack 7"
    ):
        open_cuda()


def test_without_a_driver_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu(monkeypatch) as gpu:
        found = (cudaError_t.cudaErrorInsufficientDriver, None)
        monkeypatch.setattr(gpu.cudart, "cudaGetDeviceCount", lambda: found)
        with pytest.raises(BackendUnavailableError, match="No NVIDIA driver was found"):
            open_cuda()
        monkeypatch.setattr(gpu.cudart, "cudaGetDeviceCount", lambda: (0, 0))
        with pytest.raises(BackendUnavailableError, match="no GPU that CUDA can see"):
            open_cuda()


def test_the_real_library_says_that_there_is_no_gpu() -> None:
    """With ``cuda-bindings`` itself, on a machine without a driver or with one."""
    said = ""
    try:
        said = open_cuda().device().compute_capability
    except BackendUnavailableError as reason:
        said = str(reason)
    assert re.fullmatch(r"\d+\.\d+|there is no GPU that CUDA can .*", said)


class Exported:
    """What another library hands over by DLPack: its capsule says where the array lies."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (2, 0)) -> None:
        self.array, self.device, self.streams = array, device, []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int) -> Any:
        self.streams.append(stream)
        return self.array.__dlpack__()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "int8", "bool"])
def test_dlpack_gives_address_shape_and_type(dtype: str) -> None:
    array = np.ones((2, 3, 4), dtype)
    given = Exported(array)
    assert is_device_array(given)
    found = borrowed("x", given, 77)
    assert (found.address, found.shape, found.dtype) == (array.ctypes.data, (2, 3, 4), dtype)
    assert found.nbytes == array.nbytes
    assert given.streams == [77]


def test_dlpack_of_a_view_has_its_own_address() -> None:
    array = np.ones((4, 8), np.float32)
    assert borrowed("x", Exported(array[1:3]), 1).address == array[1:3].ctypes.data
    with pytest.raises(InputError, match=r"'x' is not contiguous: strides \(32, 8\)"):
        borrowed("x", Exported(array[:, ::2]), 1)


def test_dlpack_of_another_device_or_type_is_refused() -> None:
    with pytest.raises(InputError, match=r"'x' lies on CUDA device 1"):
        borrowed("x", Exported(np.ones(3), (2, 1)), 1)
    with pytest.raises(InputError, match=r"element type \(DLPack code 5"):
        borrowed("x", Exported(np.ones(3, np.complex64)), 1)
    assert not is_device_array(Exported(np.ones(3), (1, 0)))
    assert not is_device_array(np.ones(3))
