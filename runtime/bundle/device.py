"""Which device this is, and in which power mode: what measured tables are keyed by.

And how it is doing meanwhile, as far as files of the system tell.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .constraints import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_BYTES = 1 << 20
_MODE = re.compile(r"pmode:(\d+)")
_MODE_NAME = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")
# How the GPUs of Xavier, Orin and Thor are called among the devices that change their clock.
GPU_DEVICE = re.compile(r"gpu|gv11b|ga10b")
_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)
# Thermal zones that nothing is connected to show other values.
_LEAST_C, _MOST_C = -40.0, 150.0


@dataclass(frozen=True, slots=True)
class Device:
    """A device, as far as it decides how fast an engine runs, and its power mode.

    The name is of board, processor, number of its logical cores, architecture, NVIDIA GPUs;
    versions of libraries are in the engines' host key. The mode is what caps its clocks now,
    empty where the system does not tell.
    """

    name: str
    power_mode: Text


@dataclass(frozen=True, slots=True)
class Conditions:
    """A device's hottest zone, its CPUs' mean clock, its GPU's clock; None if not told."""

    temperature_c: float | None
    cpu_mhz: float | None
    gpu_mhz: float | None


def conditions_now(root: Path = Path("/")) -> Conditions:
    """Returns how the device is doing now; ``root`` is the folder to take for ``/``."""
    zones = _numbers((root / "sys/class/thermal").glob("thermal_zone*/temp"), 1e3)
    policies = (root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_cur_freq")
    cpus = _numbers(policies, 1e3)
    gpus = _numbers((device / "cur_freq" for device in _gpu_devices(root)), 1e6)
    return Conditions(
        temperature_c=max((c for c in zones if _LEAST_C < c < _MOST_C), default=None),
        cpu_mhz=sum(cpus) / len(cpus) if cpus else None,
        gpu_mhz=max(gpus, default=None),
    )


def this_device(root: Path = Path("/")) -> Device:
    """Returns the device that this runs on, as files of the system tell.

    Where they name no processor, Python's ``platform.processor`` is asked, which may run
    ``uname``. ``root`` is the folder to take for ``/``.
    """
    processor = processor_name(_text(root / "proc/cpuinfo")) or platform.processor()
    parts = [
        _text(root / "proc/device-tree/model").strip("\0 \n"),
        processor or "unknown processor",
        f"{os.cpu_count() or 1} logical cores",
        platform.machine() or "unknown architecture",
        *_gpu_names(root),
    ]
    return Device(", ".join(part for part in parts if part), power_mode(root))


def processor_name(cpuinfo: str) -> str:
    """Returns the processor's name in the text of ``/proc/cpuinfo``; empty if it has none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("model name", "model") and not value.strip().isdigit():
            name = " ".join(value.split())
            if name:
                return name
    return ""


def power_mode(root: Path = Path("/")) -> str:
    """Returns what caps the clocks now, in words; empty where the system does not tell.

    On a Jetson the name of the power mode, since the same id means another one on another
    board, and the GPU's highest clock; anywhere the platform's profile, and the governor and
    the highest clock of the CPUs.
    """
    parts = [
        _jetson_mode(root),
        _word("profile", [_text(root / "sys/firmware/acpi/platform_profile")]),
        _cpu_mode(root),
        _gpu_mode(root),
    ]
    return "; ".join(part for part in parts if part)


def _gpu_names(root: Path) -> list[str]:
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for file in files for line in _text(file).splitlines()]
    fields = [line.partition(":") for line in lines]
    return [value.strip() for key, _, value in fields if key.strip() == "Model"]


def _gpu_devices(root: Path) -> list[Path]:
    """Returns the kernel's folders of the GPUs whose clock it scales, as on a Jetson."""
    devices = sorted((root / "sys/class/devfreq").glob("*"))
    return [device for device in devices if GPU_DEVICE.search(device.name)]


def _jetson_mode(root: Path) -> str:
    found = _MODE.search(_text(root / "var/lib/nvpmodel/status"))
    if found is None:
        return ""
    number = int(found[1])
    for mode in _MODE_NAME.finditer(_text(root / "etc/nvpmodel.conf")):
        if int(mode[1]) == number:
            return str(mode[2])
    return f"mode {number}"


def _cpu_mode(root: Path) -> str:
    policies = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    governors = (_text(policy / "scaling_governor") for policy in policies)
    clocks = (_mhz(policy / "scaling_max_freq", 1e3) for policy in policies)
    return " ".join(filter(None, (_word("CPU", governors), _word("to", clocks))))


def _gpu_mode(root: Path) -> str:
    clocks = (_mhz(device / "max_freq", 1e6) for device in _gpu_devices(root))
    return _word("GPU to", clocks)


def _word(what: str, values: Iterable[str]) -> str:
    """Returns ``what`` and the different values after it; empty if there is none."""
    found = sorted({value.strip() for value in values} - {""})
    return f"{what} {'/'.join(found)}" if found else ""


def _mhz(path: Path, unit: float) -> str:
    return next((f"{mhz:.0f} MHz" for mhz in _numbers([path], unit)), "")


def _numbers(paths: Iterable[Path], unit: float) -> list[float]:
    """Returns what the files hold, in ``unit``; those that hold no number are left out."""
    texts = (_text(path).strip() for path in paths)
    return [int(text) / unit for text in texts if _NUMBER.fullmatch(text)]


def _text(path: Path) -> str:
    """Returns a small file's text; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
