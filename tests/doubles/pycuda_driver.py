"""The functions of ``pycuda.driver`` that skipc calls, over a ``FakeDevice``."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.doubles.device import OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.doubles.device import FakeDevice


class Error(Exception):
    """``pycuda.driver.Error``."""


class MemoryError(Error):  # noqa: A001 - the library's name
    """``pycuda.driver.MemoryError``."""


class FakePyCuda(ModuleType):
    """A module; calls outside the primary context are noted."""

    Error = Error
    MemoryError = MemoryError
    event_flags = SimpleNamespace(DEFAULT=0, BLOCKING_SYNC=1, DISABLE_TIMING=2)

    def __init__(self, device: FakeDevice) -> None:
        super().__init__("pycuda.driver")
        self.device = device
        self.depth = 0
        here = self

        class Stream:
            def __init__(self, flags: int = 0) -> None:
                if flags != 1:
                    device.note("a stream that waits for the default one")
                self.handle = here.call(device.new_stream)

            def synchronize(self) -> None:
                here.call(lambda: device.synchronize(self.handle))

            def wait_for_event(self, event: Event) -> None:
                other = event.event.stream
                here.call(
                    lambda: device.enqueue(self.handle, lambda: device.synchronize(other))
                )

            def __del__(self) -> None:
                device.free_stream(self.handle)

        class Event:
            def __init__(self, flags: int = 0) -> None:
                timed, blocking = not flags & 2, bool(flags & 1)
                self.event = here.call(lambda: device.new_event(timed, blocking))

            def record(self, stream: Stream) -> Event:
                here.call(lambda: device.record(self.event, stream.handle))
                return self

            def synchronize(self) -> Event:
                here.call(lambda: device.wait_event(self.event))
                return self

            def time_since(self, event: Event) -> float:
                return here.call(lambda: device.elapsed_ms(event.event, self.event))

            def __del__(self) -> None:
                device.free_event(self.event)

        self.Stream, self.Event = Stream, Event

    def call(self, function: Callable[[], Any]) -> Any:
        if not self.depth:
            self.device.note("a call outside the primary context")
        try:
            return function()
        except OutOfMemoryError as cause:
            raise MemoryError("cuMemAlloc failed: out of memory") from cause

    def mem_get_info(self) -> tuple[int, int]:
        total = self.device.memory_bytes
        return self.call(lambda: total - self.device.used_bytes), total

    def mem_alloc(self, size: int) -> Any:
        address = self.call(lambda: self.device.malloc(size))
        device = self.device

        class DeviceAllocation:
            def __int__(self) -> int:
                return int(address)

            def free(self) -> None:
                device.free(address)

        return DeviceAllocation()

    def pagelocked_empty(self, shape: int, dtype: type) -> np.ndarray:
        address = self.call(lambda: self.device.malloc_host(shape))
        device = self.device

        class Pinned(np.ndarray):
            @property
            def base(self) -> Any:
                return SimpleNamespace(free=lambda: device.free_host(address))

        return device.pinned(address, shape).view(Pinned)

    def memcpy_htod_async(self, dest: int, src: np.ndarray, stream: Any) -> None:
        def work() -> None:
            self.device.view(dest, src.nbytes)[:] = src

        self.call(lambda: self.device.enqueue(stream.handle, work, dest))

    def memcpy_dtod_async(self, dest: int, src: int, size: int, stream: Any) -> None:
        def work() -> None:
            self.device.view(dest, size)[:] = self.device.view(src, size).copy()

        self.call(lambda: self.device.enqueue(stream.handle, work, dest, src))

    def memcpy_dtoh_async(self, dest: np.ndarray, src: int, stream: Any) -> None:
        def work() -> None:
            dest[:] = self.device.view(src, dest.nbytes)

        self.call(lambda: self.device.enqueue(stream.handle, work, src))


class FakeContext:
    """The primary context."""

    def __init__(self, driver: FakePyCuda) -> None:
        self._driver = driver

    def push(self) -> None:
        self._driver.depth += 1

    def pop(self) -> None:
        self._driver.depth -= 1

    def synchronize(self) -> None:
        for stream in list(self._driver.device._streams):
            self._driver.call(lambda stream=stream: self._driver.device.synchronize(stream))

    def get_device(self) -> Any:
        total = self._driver.device.memory_bytes
        return SimpleNamespace(
            name=lambda: "Fake GPU",
            compute_capability=lambda: (8, 7),
            total_memory=lambda: total,
        )
