"""What the device was like before and after a measurement: how hot, how fast clocked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from skipc.runtime.bundle.device import gpu_devices

if TYPE_CHECKING:
    from collections.abc import Iterable

# Zones that nothing is connected to show such values.
_POSSIBLE_C = (-40.0, 150.0)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was read of a device; None where the system does not tell.

    Attributes:
        temperature_c: Of its hottest zone, in degrees Celsius.
        cpu_mhz: Mean of the CPUs' clocks.
        gpu_mhz: The GPU's clock, where the kernel scales it (Jetsons).
    """

    temperature_c: float | None
    cpu_mhz: float | None
    gpu_mhz: float | None


def conditions_now(root: Path = Path("/")) -> Conditions:
    """Returns what the device is like now.

    Args:
        root: The folder to take for ``/``.
    """
    zones = _numbers((root / "sys/class/thermal").glob("thermal_zone*/temp"), 1e3)
    possible = [value for value in zones if _POSSIBLE_C[0] < value < _POSSIBLE_C[1]]
    policies = (root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_cur_freq")
    cpus = _numbers(policies, 1e3)
    gpus = _numbers((device / "cur_freq" for device in gpu_devices(root)), 1e6)
    return Conditions(
        temperature_c=max(possible, default=None),
        cpu_mhz=fmean(cpus) if cpus else None,
        gpu_mhz=max(gpus, default=None),
    )


def _numbers(paths: Iterable[Path], unit: float) -> list[float]:
    """Returns what the files hold, in ``unit``; those that cannot be read are left out."""
    found = []
    for path in sorted(paths):
        try:
            found.append(int(path.read_text(encoding="ascii")) / unit)
        except (OSError, ValueError):  # a zone that is switched off answers with an error
            continue
    return found
