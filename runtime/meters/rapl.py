"""The meter ``rapl``: the energy counters of Intel and AMD processors.

``class/powercap/intel-rapl:N`` is one package (AMD's have the same name), ``intel-rapl:N:M`` a
part of it. Packages and their DRAM are added up; ``core`` and ``uncore`` lie within the
package, ``psys`` around it, and ``intel-rapl-mmio`` is the same counter by another way.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import MeterError, MeterUnavailableError
from .meter import Reading
from .sysfs import read_number, read_optional_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..clock import Clock
    from .meter import Meter

_ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")
_COUNTED = re.compile(r"package-\d+(-die-\d+)?|dram")

# The counters' usual unit, 2^-14 J (Intel's manual, MSR_RAPL_POWER_UNIT); some are finer.
_STEP_MJ = 1000 / 2**14
_PERIOD_S = 0.001

# No package draws this much: a counter that seems to have wrapped so fast was reset.
_MOST_W = 5000.0


class _Counter:
    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range_uj = read_number(folder / "max_energy_range_uj")
        self._last_uj = self.now_uj()
        self._sum_uj = 0

    def now_uj(self) -> int:
        return read_number(self._file)

    def advanced_mj(self, now_uj: int, passed_s: float) -> float:
        """Returns the millijoules since the start, the counter now showing ``now_uj``.

        It may wrap once between two reads; after a second time energy is missing. The ranges
        allow for minutes at full load.
        """
        step_uj = now_uj - self._last_uj
        if step_uj < 0:
            step_uj += self._range_uj
            if step_uj < 0 or step_uj * 1e-6 > _MOST_W * passed_s > 0:
                step_uj = now_uj
        self._last_uj = now_uj
        self._sum_uj += step_uj
        return self._sum_uj / 1000


class _RaplMeter:
    """The energy of all processor packages and their memory since it was opened."""

    name = "rapl"
    resolution_mj = _STEP_MJ
    period_s = _PERIOD_S
    estimated = False

    def __init__(self, zones: Sequence[tuple[str, Path]], clock: Clock) -> None:
        self.covers = f"the processor ({' + '.join(name for name, _ in zones)})"
        self._counters = [_Counter(folder) for _, folder in zones]
        self._clock = clock
        self._last_ns = clock.now_ns()

    def read(self) -> Reading:
        shown = [counter.now_uj() for counter in self._counters]
        time_ns = self._clock.now_ns()
        passed_s = (time_ns - self._last_ns) * 1e-9
        self._last_ns = time_ns
        energy_mj = sum(
            counter.advanced_mj(now_uj, passed_s)
            for counter, now_uj in zip(self._counters, shown, strict=True)
        )
        return Reading(energy_mj, time_ns)

    def close(self) -> None:
        """Does nothing: no file stays open."""


def open_kind(argument: str, clock: Clock, system: Path) -> Meter:
    """Returns the meter of all packages of this machine; ``argument`` must be empty."""
    if argument:
        raise MeterError(
            f"the meter 'rapl' adds up all packages and takes no name, not {argument!r}. Write"
            " 'rapl'."
        )
    return _RaplMeter(_zones(system), clock)


def specs(system: Path) -> tuple[str, ...]:
    """Returns the one meter of this kind."""
    _zones(system)
    return ("rapl",)


def _zones(system: Path) -> list[tuple[str, Path]]:
    powercap = system / "class/powercap"
    found = [
        (read_optional_text(folder / "name"), folder)
        for folder in sorted(powercap.glob("intel-rapl:*"))
        if _ZONE.fullmatch(folder.name)
    ]
    counted = [(name, folder) for name, folder in found if _COUNTED.fullmatch(name)]
    if not any(name != "dram" for name, _ in counted):
        there = ", ".join(name or "?" for name, _ in found)
        raise MeterUnavailableError(
            f"no processor package shows its energy under {powercap}"
            f"{f' (only {there})' if there else ''}: not an Intel or AMD processor, a virtual"
            " machine or a container, or 'modprobe intel_rapl_msr' is missing."
        )
    return counted
