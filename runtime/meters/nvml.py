"""The meter ``nvml``: the total energy counter of an NVIDIA GPU.

Through NVIDIA's package ``nvidia-ml-py`` (module ``pynvml``), imported when used. Volta and
newer GPUs count; a Jetson's NVML starts and then has nothing to tell.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import MeterError, MeterUnavailableError, choices_text, install_text
from .meter import Reading

if TYPE_CHECKING:
    from pathlib import Path

    from ..clock import Clock
    from .meter import Meter

# The counter is in millijoules and moves about ten times a second, as was measured on several
# generations (ml.energy, "Measuring GPU energy"): nothing promises it.
_STEP_MJ = 1.0
_PERIOD_S = 0.1

_NO_GPU = "the NVIDIA driver sees no GPU. 'nvidia-smi' must list one."


class _NvmlMeter:
    """The energy of one GPU since its driver was loaded."""

    resolution_mj = _STEP_MJ
    period_s = _PERIOD_S
    estimated = False

    def __init__(self, name: str, library: Any, handle: Any, clock: Clock) -> None:
        self.name = name
        self.covers = f"the GPU board {device_name(library, handle)}"
        self._library = library
        self._handle = handle
        self._clock = clock
        self._closed = False

    def read(self) -> Reading:
        try:
            energy_mj = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except self._library.NVMLError as cause:
            raise MeterError(
                f"the energy of {self.covers} cannot be read: {cause}."
            ) from cause
        return Reading(float(energy_mj), self._clock.now_ns())

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            shut_down(self._library)


def open_kind(argument: str, clock: Clock, system: Path) -> Meter:
    """Returns the meter of a GPU by its PCI bus id, or of the only one where that is empty."""
    library = started()
    try:
        handle = _device(library, argument)
        name = f"nvml:{argument}" if argument else "nvml"
        meter = _NvmlMeter(name, library, handle, clock)
        _check_counter(library, handle, meter.covers)
    except library.NVMLError as cause:
        shut_down(library)
        raise MeterError(f"NVML does not answer: {cause}.") from cause
    except MeterError:
        shut_down(library)
        raise
    return meter


def specs(system: Path) -> tuple[str, ...]:
    """Returns each GPU by its PCI bus id."""
    library = started()
    try:
        ids = _bus_ids(library)
    except library.NVMLError as cause:
        raise MeterError(f"NVML does not answer: {cause}.") from cause
    finally:
        shut_down(library)
    if not ids:
        raise MeterUnavailableError(_NO_GPU)
    return tuple(f"nvml:{found}" for found in ids)


def started() -> Any:
    """Returns the binding with NVML started, for ``shut_down`` to end.

    Raises:
        MeterUnavailableError: There is no binding, or no driver.
    """
    try:
        library: Any = importlib.import_module("pynvml")
    except ModuleNotFoundError as cause:
        raise MeterUnavailableError(
            "an NVIDIA GPU is read through the package nvidia-ml-py, which is not installed."
            f" Install it with: {install_text('nvml')}"
        ) from cause
    try:
        library.nvmlInit()
    except library.NVMLError as cause:
        raise MeterUnavailableError(
            f"NVML cannot be started: {cause}. It comes with the NVIDIA driver; 'nvidia-smi'"
            " must work here."
        ) from cause
    return library


def _device(library: Any, bus_id: str) -> Any:
    if bus_id:
        absent = (library.NVML_ERROR_NOT_FOUND, library.NVML_ERROR_INVALID_ARGUMENT)
        try:
            return library.nvmlDeviceGetHandleByPciBusId(bus_id)
        except library.NVMLError as cause:
            if cause.value not in absent:
                raise
            raise MeterUnavailableError(
                f"there is no GPU with the PCI bus id {bus_id!r}."
                f" {choices_text(bus_id, _bus_ids(library))}"
            ) from cause
    count = library.nvmlDeviceGetCount()
    if count == 0:
        raise MeterUnavailableError(_NO_GPU)
    if count > 1:
        ids = _bus_ids(library)
        raise MeterUnavailableError(
            f"there are {count} GPUs, and 'nvml' does not say which: {', '.join(ids)}. Write"
            f" 'nvml:{ids[0]}', say."
        )
    return library.nvmlDeviceGetHandleByIndex(0)


def _check_counter(library: Any, handle: Any, covers: str) -> None:
    try:
        library.nvmlDeviceGetTotalEnergyConsumption(handle)
    except library.NVMLError as cause:
        if cause.value != library.NVML_ERROR_NOT_SUPPORTED:
            raise
        raise MeterUnavailableError(
            f"{covers} has no energy counter. Volta and newer GPUs have one; a Jetson's has"
            " none: use 'hwmon', its power rails."
        ) from cause


def _bus_ids(library: Any) -> list[str]:
    return [bus_id(library, handle) for handle in handles(library)]


def handles(library: Any) -> list[Any]:
    """Returns the binding's handles of all GPUs."""
    return [
        library.nvmlDeviceGetHandleByIndex(index)
        for index in range(library.nvmlDeviceGetCount())
    ]


def device_name(library: Any, handle: Any) -> str:
    """Returns what the driver calls a GPU, and its PCI bus id."""
    return f"{_text(library.nvmlDeviceGetName(handle))} ({bus_id(library, handle)})"


def bus_id(library: Any, handle: Any) -> str:
    """Returns where a GPU is on the PCI bus."""
    return _text(library.nvmlDeviceGetPciInfo(handle).busId)


def _text(value: str | bytes) -> str:
    """Returns a text that older versions of the package gave as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def shut_down(library: Any) -> None:
    """Ends what ``started`` began."""
    try:
        library.nvmlShutdown()
    except library.NVMLError:
        # The driver may have gone before; there is nothing left to end.
        return
