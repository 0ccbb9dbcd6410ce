"""Power rails as the kernel shows them: which channels are rails, and how each is read.

Three layouts (``system`` is ``/sys``):

- INA3221, ``class/hwmon/hwmonN``: ``inN_label``, ``inN_input`` (mV), ``currN_input`` (mA) for
  N = 1 to 3. ``in4`` to ``in6`` are the shunts' voltages, ``in7`` their sum and ``curr4`` the
  sum of the currents: none is a rail. ``hwmonN`` is another number after every start.
- INA238, ``class/hwmon/hwmonN``: one channel, ``power1_input`` (uW), named by ``label``.
- INA3221 of JetPack 4, ``bus/i2c/drivers/ina3221x/*/iio:deviceM``: ``rail_name_N``,
  ``in_powerN_input`` (mW) for N = 0 to 2.

See ``Documentation/hwmon/ina3221.rst`` of the Linux kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .sysfs import read_number, read_optional_number, read_optional_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What the device trees call a channel to which nothing is connected.
_NOT_CONNECTED = ("", "NC")

# The INA3221's shunt voltage comes in steps of 40 uV (Linux, drivers/hwmon/ina3221.c).
_SHUNT_STEP_NV = 40_000

# Conversion of one channel after the INA3221's reset, voltage and current (the same file).
_CONVERSION_MS = 2.2


@dataclass(frozen=True, slots=True)
class ShuntRail:
    """A channel of an INA3221, a voltage and a current: its folder, its number there.

    All methods raise ``MeterError`` where a file cannot be read now.
    """

    label: str
    place: Path
    channel: int
    period_s: float

    def power_mw(self) -> float:
        """Returns voltage times current in milliwatts; below zero by the sensor's offset."""
        current_ma = read_number(self.place / f"curr{self.channel}_input")
        return self._voltage_mv() * current_ma / 1000

    def step_mw(self) -> float:
        """Returns what one step of the shunt's voltage is in milliwatts."""
        shunt_uohm = read_optional_number(self.place / f"shunt{self.channel}_resistor")
        step_ma = max(1.0, _SHUNT_STEP_NV / shunt_uohm) if shunt_uohm else 1.0
        return self._voltage_mv() * step_ma / 1000

    def _voltage_mv(self) -> int:
        return read_number(self.place / f"in{self.channel}_input")


@dataclass(frozen=True, slots=True)
class PowerRail:
    """A channel whose chip or driver multiplies by itself: a file in ``unit_mw``."""

    label: str
    place: Path
    file: str
    unit_mw: float
    period_s: float

    def power_mw(self) -> float:
        """Returns the power in milliwatts."""
        return read_number(self.place / self.file) * self.unit_mw

    def step_mw(self) -> float:
        """Returns the file's unit in milliwatts; the chip's steps are coarser."""
        return self.unit_mw


Rail: TypeAlias = ShuntRail | PowerRail


def find_rails(system: Path) -> list[Rail]:
    """Returns all rails of this machine that have a label; ``system`` is ``/sys``."""
    found: list[Rail] = []
    for folder in sorted((system / "class/hwmon").glob("hwmon*")):
        chip = _CHIPS.get(read_optional_text(folder / "name"))
        if chip is not None:
            found += chip(folder)
    for folder in sorted((system / "bus/i2c/drivers/ina3221x").glob("*/iio:device*")):
        found += _iio(folder)
    return found


def _ina3221(folder: Path) -> Iterator[Rail]:
    period_s = _ina3221_period_s(folder)
    for channel in (1, 2, 3):
        label = read_optional_text(folder / f"in{channel}_label")
        enabled = read_optional_number(folder / f"in{channel}_enable") != 0
        measured = (folder / f"curr{channel}_input").exists()
        if label not in _NOT_CONNECTED and enabled and measured:
            yield ShuntRail(label, folder, channel, period_s)


def _ina3221_period_s(folder: Path) -> float:
    interval_ms = read_optional_number(folder / "update_interval")
    if interval_ms is not None and interval_ms > 0:
        return interval_ms / 1000
    samples = read_optional_number(folder / "samples") or 1
    return 3 * _CONVERSION_MS * samples / 1000


def _ina238(folder: Path) -> Iterator[Rail]:
    label = read_optional_text(folder / "label") or read_optional_text(folder / "in1_label")
    if label not in _NOT_CONNECTED and (folder / "power1_input").exists():
        interval_ms = read_optional_number(folder / "update_interval") or 0
        yield PowerRail(label, folder, "power1_input", 1e-3, max(0, interval_ms) / 1000)


def _iio(folder: Path) -> Iterator[Rail]:
    for channel in (0, 1, 2):
        label = read_optional_text(folder / f"rail_name_{channel}")
        file = f"in_power{channel}_input"
        if label not in _NOT_CONNECTED and (folder / file).exists():
            yield PowerRail(label, folder, file, 1.0, 3 * _CONVERSION_MS / 1000)


_CHIPS: dict[str, Callable[[Path], Iterator[Rail]]] = {"ina3221": _ina3221, "ina238": _ina238}
