"""The functions of ``cuda.bindings.runtime`` that skipc calls, over a ``FakeDevice``."""

from __future__ import annotations

import enum
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.doubles.device import FailureError, OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.doubles.device import FakeDevice, FakeEvent, FakeGraph


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorLaunchFailure = 719


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1


class FakeCudart(ModuleType):
    """A module; each function returns an error code and its results, as the real ones do."""

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1
    cudaEventDefault = 0
    cudaEventBlockingSync = 1
    cudaEventDisableTiming = 2

    def __init__(self, device: FakeDevice, capability: tuple[int, int] = (8, 7)) -> None:
        super().__init__("cuda.bindings.runtime")
        self.device = device
        self.capability = capability
        self.current = 0
        self.copies = 0

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, 1

    def cudaGetDevice(self) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, self.current

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        self.current = device
        return (cudaError_t.cudaSuccess,)

    def cudaGetLastError(self) -> tuple[Any, ...]:
        return (cudaError_t.cudaSuccess,)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        major, minor = self.capability
        found = SimpleNamespace(
            name=b"Fake GPU", major=major, minor=minor, totalGlobalMem=self.device.memory_bytes
        )
        return cudaError_t.cudaSuccess, found

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        total = self.device.memory_bytes
        return cudaError_t.cudaSuccess, total - self.device.used_bytes, total

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return _result(lambda: self.device.malloc(size))

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:
        return _done(lambda: self.device.free(devPtr))

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        return _result(lambda: self.device.malloc_host(size))

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:
        return _done(lambda: self.device.free_host(ptr))

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: int
    ) -> tuple[Any, ...]:
        device = self.device
        self.copies += 1

        def upload() -> None:
            device.view(dst, count)[:] = device.pinned(src, count)

        def download() -> None:
            device.pinned(dst, count)[:] = device.view(src, count)

        def move() -> None:
            device.view(dst, count)[:] = device.view(src, count).copy()

        work, touched = {
            cudaMemcpyKind.cudaMemcpyHostToDevice: (upload, (dst,)),
            cudaMemcpyKind.cudaMemcpyDeviceToHost: (download, (src,)),
            cudaMemcpyKind.cudaMemcpyDeviceToDevice: (move, (dst, src)),
        }[kind]
        return _done(lambda: device.enqueue(stream, work, *touched))

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        if flags != self.cudaStreamNonBlocking:
            self.device.note("a stream that waits for the default one")
        return _result(self.device.new_stream)

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        return _done(lambda: self.device.free_stream(stream))

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        return _done(lambda: self.device.synchronize(stream))

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        timed = not flags & self.cudaEventDisableTiming
        blocking = bool(flags & self.cudaEventBlockingSync)
        return _result(lambda: _Handle(self.device.new_event(timed, blocking)))

    def cudaEventRecord(self, event: _Handle, stream: int) -> tuple[Any, ...]:
        return _done(lambda: self.device.record(event.event, stream))

    def cudaEventSynchronize(self, event: _Handle) -> tuple[Any, ...]:
        return _done(lambda: self.device.wait_event(event.event))

    def cudaEventElapsedTime(self, start: _Handle, end: _Handle) -> tuple[Any, ...]:
        return _result(lambda: self.device.elapsed_ms(start.event, end.event))

    def cudaStreamWaitEvent(self, stream: int, event: _Handle, flags: int) -> tuple[Any, ...]:
        # What the other stream holds now runs before anything that follows here.
        other = event.event.stream
        return _done(
            lambda: self.device.enqueue(stream, lambda: self.device.synchronize(other))
        )

    def cudaEventDestroy(self, event: _Handle) -> tuple[Any, ...]:
        return _done(lambda: self.device.free_event(event.event))

    def cudaStreamBeginCapture(
        self, stream: int, mode: cudaStreamCaptureMode
    ) -> tuple[Any, ...]:
        if mode is not cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal:
            self.device.note("a capture that other threads' allocations would spoil")
        return _done(lambda: self.device.begin_capture(stream))

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        return _result(lambda: self.device.end_capture(stream))

    def cudaGraphGetNodes(self, graph: FakeGraph, numNodes: int = 0) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, [], len(graph.ops)

    def cudaGraphInstantiate(self, graph: FakeGraph, flags: int) -> tuple[Any, ...]:
        def instantiate() -> FakeGraph:
            self.device.step()
            graph.live = True
            return graph

        return _result(instantiate)

    def cudaGraphDestroy(self, graph: FakeGraph) -> tuple[Any, ...]:
        if not graph.live:  # it was not instantiated
            self.device.forget(graph)
        return (cudaError_t.cudaSuccess,)

    def cudaGraphLaunch(self, graphExec: FakeGraph, stream: int) -> tuple[Any, ...]:
        return _done(lambda: self.device.launch(graphExec, stream))

    def cudaGraphExecDestroy(self, graphExec: FakeGraph) -> tuple[Any, ...]:
        if not graphExec.live:
            self.device.note("a graph destroyed twice")
        self.device.forget(graphExec)
        return (cudaError_t.cudaSuccess,)


class _Handle:
    """``cudaEvent_t``."""

    def __init__(self, event: FakeEvent) -> None:
        self.event = event

    def __int__(self) -> int:
        return id(self.event)


def _result(call: Callable[[], object]) -> tuple[Any, ...]:
    try:
        return cudaError_t.cudaSuccess, call()
    except OutOfMemoryError:
        return cudaError_t.cudaErrorMemoryAllocation, None
    except FailureError:
        return cudaError_t.cudaErrorLaunchFailure, None


def _done(call: Callable[[], object]) -> tuple[Any, ...]:
    return (_result(call)[0],)
