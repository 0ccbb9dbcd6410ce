"""CUDA through PyCUDA, for boards that have it; it captures no graphs."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BackendUnavailableError
from . import CudaError, Device, DeviceMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from . import Graph, HostMemory

NAME = "pycuda"
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, which PyCUDA has no name for


def open_library() -> _PyCuda:
    """Returns CUDA in the device's primary context, which other libraries share.

    ``pycuda.autoinit`` would make a context of its own, in which TensorRT and torch cannot see
    the memory.
    """
    driver = importlib.import_module("pycuda.driver")
    try:
        primary = importlib.import_module("pycuda.autoprimaryctx")
    except driver.Error as cause:
        raise BackendUnavailableError(
            f"there is no GPU that PyCUDA can use: {cause}"
        ) from cause
    return _PyCuda(driver, primary.context)


class _PyCuda:
    """``Cuda`` by ``pycuda.driver``, or what has its functions; without graphs.

    The primary context is made current around every call.
    """

    name = NAME
    supports_graphs = False

    def __init__(self, driver: ModuleType, context: Any) -> None:
        self._driver = driver
        self._context = context
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}

    def device(self) -> Device:
        with self.current():
            found = self._context.get_device()
            major, minor = found.compute_capability()
            return Device(found.name(), f"{major}.{minor}", int(found.total_memory()))

    def free_bytes(self) -> int:
        with self.current():
            return int(self._driver.mem_get_info()[0])

    def malloc(self, size_bytes: int) -> int:
        with self.current():
            memory = self._driver.mem_alloc(size_bytes)
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        with self.current():
            self._memory.pop(address).free()

    def malloc_host(self, size_bytes: int) -> HostMemory:
        with self.current():
            memory: HostMemory = self._driver.pagelocked_empty(size_bytes, np.uint8)
        self._memory[memory.ctypes.data] = memory
        return memory

    def free_host(self, memory: HostMemory) -> None:
        with self.current():
            self._memory.pop(memory.ctypes.data).base.free()

    def copy_to_device(self, address: int, memory: HostMemory, stream: int) -> None:
        with self.current():
            self._driver.memcpy_htod_async(address, memory, self._streams[stream])

    def copy_on_device(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        with self.current():
            self._driver.memcpy_dtod_async(target, source, size_bytes, self._streams[stream])

    def copy_to_host(self, memory: HostMemory, address: int, stream: int) -> None:
        with self.current():
            self._driver.memcpy_dtoh_async(memory, address, self._streams[stream])

    def new_stream(self) -> int:
        with self.current():
            stream = self._driver.Stream(_NON_BLOCKING)
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def free_stream(self, stream: int) -> None:
        with self.current():
            del self._streams[stream]

    def synchronize(self, stream: int) -> None:
        with self.current():
            self._streams[stream].synchronize()

    def wait_for(self, stream: int, other: int) -> None:
        with self.current():
            if other not in self._streams:
                # PyCUDA cannot take over a foreign stream; waiting for all of them can.
                self._context.synchronize()
                return
            event = self._driver.Event(self._driver.event_flags.DISABLE_TIMING)
            event.record(self._streams[other])
            self._streams[stream].wait_for_event(event)

    def new_event(self, blocking: bool) -> Any:
        flags = self._driver.event_flags
        with self.current():
            return self._driver.Event(flags.BLOCKING_SYNC if blocking else flags.DEFAULT)

    def free_event(self, event: Any) -> None:
        """Does nothing: PyCUDA frees an event when nobody holds it."""

    def record(self, event: Any, stream: int) -> None:
        with self.current():
            event.record(self._streams[stream])

    def wait_event(self, event: Any) -> None:
        with self.current():
            event.synchronize()

    def elapsed_ms(self, start: Any, end: Any) -> float:
        with self.current():
            return float(end.time_since(start))

    def begin_capture(self, stream: int) -> None:
        raise CudaError(f"PyCUDA captures no graphs (stream {stream}).")

    def end_capture(self, stream: int) -> Graph:
        raise CudaError(f"PyCUDA captures no graphs (stream {stream}).")

    @contextmanager
    def current(self) -> Iterator[None]:
        driver = self._driver
        self._context.push()
        try:
            yield
        except driver.MemoryError as cause:
            raise DeviceMemoryError(f"PyCUDA: {cause}.") from cause
        except driver.Error as cause:
            raise CudaError(f"PyCUDA: {cause}.") from cause
        finally:
            self._context.pop()
