"""The functions of ``pynvml`` (nvidia-ml-py) that skipc calls, over GPUs that are numbers."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@dataclass
class CountingGpu:
    """A GPU with a counter.

    Attributes:
        bus_id: Its PCI bus id.
        energy_mj: What its counter shows.
        name: What the driver calls it.
        fault: The error code that its counter and its limits answer with, 0 for none.
        limit_mw: What its power is limited to.
        least_mw: The least that its driver limits it to, whatever is asked for.
        may_set: Whether this user may set its limits.
        locked_mhz: What its clock is locked to, 0 for nothing.
    """

    bus_id: str = "00000000:01:00.0"
    energy_mj: int = 123_456
    name: str = "Fake GPU"
    fault: int = 0
    limit_mw: int = 220_000
    least_mw: int = 0
    may_set: bool = True
    locked_mhz: int = 0


class NVMLError(Exception):
    """An error code, as the binding raises it."""

    texts = {  # noqa: RUF012
        1: "Uninitialized",
        2: "Invalid Argument",
        3: "Not Supported",
        4: "Insufficient Permissions",
        6: "Not Found",
        9: "Driver Not Loaded",
        12: "NVML Shared Library Not Found",
        15: "GPU is lost",
    }

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return self.texts[self.value]


class FakeNvml(ModuleType):
    """A module; it counts its users, and refuses to work for none."""

    NVMLError = NVMLError
    NVML_ERROR_INVALID_ARGUMENT = 2
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_NOT_FOUND = 6
    NVML_CLOCK_GRAPHICS = 0

    def __init__(self, *gpus: CountingGpu, start_fault: int = 0) -> None:
        super().__init__("pynvml")
        self.gpus = gpus
        self.start_fault = start_fault
        self.users = 0

    def nvmlInit(self) -> None:
        if self.start_fault:
            raise NVMLError(self.start_fault)
        self.users += 1

    def nvmlShutdown(self) -> None:
        self._check()
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._check()
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> CountingGpu:
        self._check()
        return self.gpus[index]

    def nvmlDeviceGetHandleByPciBusId(self, pciBusId: str) -> CountingGpu:
        self._check()
        for gpu in self.gpus:
            if gpu.bus_id == pciBusId.upper().rjust(len(gpu.bus_id), "0"):
                return gpu
        raise NVMLError(self.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetName(self, handle: CountingGpu) -> str:
        self._check()
        return handle.name

    def nvmlDeviceGetPciInfo(self, handle: CountingGpu) -> Any:
        self._check()
        return SimpleNamespace(busId=handle.bus_id)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: CountingGpu) -> int:
        self._check(handle)
        return handle.energy_mj

    def nvmlDeviceGetPowerManagementLimit(self, handle: CountingGpu) -> int:
        self._check(handle)
        return handle.limit_mw

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: CountingGpu) -> list[int]:
        self._check(handle)
        return [100_000, 250_000]

    def nvmlDeviceSetPowerManagementLimit(self, handle: CountingGpu, limit: int) -> None:
        self._check(handle, setting=True)
        handle.limit_mw = max(limit, handle.least_mw)

    def nvmlDeviceGetSupportedMemoryClocks(self, handle: CountingGpu) -> list[int]:
        self._check(handle)
        return [2000, 800]

    def nvmlDeviceGetSupportedGraphicsClocks(
        self, handle: CountingGpu, memoryClockMHz: int
    ) -> list[int]:
        self._check(handle)
        return [1500, 1200, 300] if memoryClockMHz == 2000 else [300]

    def nvmlDeviceSetGpuLockedClocks(
        self, handle: CountingGpu, minGpuClockMHz: int, maxGpuClockMHz: int
    ) -> None:
        self._check(handle, setting=True)
        handle.locked_mhz = maxGpuClockMHz

    def nvmlDeviceResetGpuLockedClocks(self, handle: CountingGpu) -> None:
        self._check(handle, setting=True)
        handle.locked_mhz = 0

    def nvmlDeviceGetClockInfo(self, handle: CountingGpu, type: int) -> int:  # noqa: A002
        self._check(handle)
        return handle.locked_mhz or 1500

    def _check(self, gpu: CountingGpu | None = None, setting: bool = False) -> None:
        if self.users <= 0:
            raise NVMLError(1)
        if gpu is not None and gpu.fault:
            raise NVMLError(gpu.fault)
        if gpu is not None and setting and not gpu.may_set:
            raise NVMLError(self.NVML_ERROR_NO_PERMISSION)


@contextmanager
def fake_nvml(
    patch: pytest.MonkeyPatch, *gpus: CountingGpu, start_fault: int = 0
) -> Iterator[FakeNvml]:
    """Yields the double, importable as ``pynvml``; nobody may use it any more at the end."""
    library = FakeNvml(*gpus, start_fault=start_fault)
    with patch.context() as inner:
        inner.setitem(sys.modules, "pynvml", library)
        yield library
    assert library.users == 0
