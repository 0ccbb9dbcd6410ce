"""CUDA through NVIDIA's own bindings (``cuda.bindings``, the package ``cuda-bindings``)."""

from __future__ import annotations

import ctypes
import importlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BackendUnavailableError
from . import CudaError, Device, DeviceMemoryError, Graph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from . import HostMemory

NAME = "cuda-python"
_DEVICE = 0


def open_library() -> _CudaPython:
    """Returns CUDA on the first visible device (see ``CUDA_VISIBLE_DEVICES``)."""
    runtime = importlib.import_module("cuda.bindings.runtime")
    try:
        (count,) = _checked(runtime, "cudaGetDeviceCount", runtime.cudaGetDeviceCount())
    except CudaError as cause:
        raise BackendUnavailableError(f"there is no GPU that CUDA can use: {cause}") from cause
    if count < 1:
        raise BackendUnavailableError("there is no GPU that CUDA can see.")
    return _CudaPython(runtime)


class _CudaPython:
    """``Cuda`` by ``cuda.bindings.runtime``, or what has its functions."""

    name = NAME
    supports_graphs = True

    def __init__(self, runtime: ModuleType) -> None:
        self._runtime = runtime

    @contextmanager
    def current(self) -> Iterator[None]:
        before = int(self._call("cudaGetDevice")[0])
        if before == _DEVICE:
            yield
            return
        self._call("cudaSetDevice", _DEVICE)
        try:
            yield
        finally:
            self._call("cudaSetDevice", before)

    def device(self) -> Device:
        (found,) = self._call("cudaGetDeviceProperties", _DEVICE)
        name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
        capability = f"{found.major}.{found.minor}"
        return Device(name.rstrip("\0"), capability, int(found.totalGlobalMem))

    def free_bytes(self) -> int:
        return int(self._call("cudaMemGetInfo")[0])

    def malloc(self, size_bytes: int) -> int:
        return int(self._call("cudaMalloc", size_bytes)[0])

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def malloc_host(self, size_bytes: int) -> HostMemory:
        address = int(self._call("cudaMallocHost", size_bytes)[0])
        return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))

    def free_host(self, memory: HostMemory) -> None:
        self._call("cudaFreeHost", memory.ctypes.data)

    def copy_to_device(self, address: int, memory: HostMemory, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, memory.ctypes.data, memory.nbytes, kind, stream)

    def copy_on_device(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpyAsync", target, source, size_bytes, kind, stream)

    def copy_to_host(self, memory: HostMemory, address: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", memory.ctypes.data, address, memory.nbytes, kind, stream)

    def new_stream(self) -> int:
        flag = self._runtime.cudaStreamNonBlocking
        return int(self._call("cudaStreamCreateWithFlags", flag)[0])

    def free_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def wait_for(self, stream: int, other: int) -> None:
        untimed = self._runtime.cudaEventDisableTiming
        (event,) = self._call("cudaEventCreateWithFlags", untimed)
        try:
            self._call("cudaEventRecord", event, other)
            self._call("cudaStreamWaitEvent", stream, event, 0)
        finally:
            self._call("cudaEventDestroy", event)  # takes effect when the event has passed

    def new_event(self, blocking: bool) -> Any:
        runtime = self._runtime
        flag = runtime.cudaEventBlockingSync if blocking else runtime.cudaEventDefault
        return self._call("cudaEventCreateWithFlags", flag)[0]

    def free_event(self, event: Any) -> None:
        self._call("cudaEventDestroy", event)

    def record(self, event: Any, stream: int) -> None:
        self._call("cudaEventRecord", event, stream)

    def wait_event(self, event: Any) -> None:
        self._call("cudaEventSynchronize", event)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(self._call("cudaEventElapsedTime", start, end)[0])

    def begin_capture(self, stream: int) -> None:
        # Thread-local: an engine that is loaded in the background may go on allocating.
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> Graph:
        (recorded,) = self._call("cudaStreamEndCapture", stream)
        try:
            nodes = int(self._call("cudaGraphGetNodes", recorded)[-1])
            (launchable,) = self._call("cudaGraphInstantiate", recorded, 0)
        finally:
            self._call("cudaGraphDestroy", recorded)
        launch = partial(self._call, "cudaGraphLaunch", launchable)
        return Graph(nodes, launch, partial(self._call, "cudaGraphExecDestroy", launchable))

    def _call(self, function: str, *arguments: object) -> tuple[Any, ...]:
        return _checked(self._runtime, function, getattr(self._runtime, function)(*arguments))


def _checked(runtime: ModuleType, function: str, found: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns a call's results without the leading error code, or raises what that says."""
    error, *results = found
    codes = runtime.cudaError_t
    if error == codes.cudaSuccess:
        return tuple(results)
    runtime.cudaGetLastError()  # or another library would find it, and take it for its own
    text = f"{function} failed: {getattr(error, 'name', error)}."
    if error == codes.cudaErrorMemoryAllocation:
        raise DeviceMemoryError(text)
    if error == codes.cudaErrorInsufficientDriver:
        text += " No NVIDIA driver was found, or it is older than cuda-bindings needs."
    raise CudaError(text)
