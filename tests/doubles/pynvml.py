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
        fault: The error code that its counter and its limit answer with, 0 for none.
        limit_mw: What its power is limited to.
    """

    bus_id: str = "00000000:01:00.0"
    energy_mj: int = 123_456
    name: str = "Fake GPU"
    fault: int = 0
    limit_mw: int = 220_000


class NVMLError(Exception):
    """An error code, as the binding raises it."""

    texts = {  # noqa: RUF012
        1: "Uninitialized",
        2: "Invalid Argument",
        3: "Not Supported",
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
    NVML_ERROR_NOT_FOUND = 6

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
        self._check()
        if handle.fault:
            raise NVMLError(handle.fault)
        return handle.energy_mj

    def nvmlDeviceGetPowerManagementLimit(self, handle: CountingGpu) -> int:
        self._check()
        if handle.fault:
            raise NVMLError(handle.fault)
        return handle.limit_mw

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: CountingGpu) -> list[int]:
        self._check()
        return [100_000, 250_000]

    def _check(self) -> None:
        if self.users <= 0:
            raise NVMLError(1)


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
