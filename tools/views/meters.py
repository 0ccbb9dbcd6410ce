"""What ``skipc meters`` prints."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from skipc.runtime.errors import MeterError
from skipc.runtime.meters import MEASURING, meter_specs, open_meter
from skipc.tools.console import table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from skipc.runtime import Meter, Reading


_ENERGIES = ((1e6, "kJ"), (1e3, "J"), (1.0, "mJ"))


def print_meters(found: Sequence[Shown], out: Console) -> None:
    """Prints what each meter shows, what it covers, and why others cannot be used."""
    usable = [shown for shown in found if shown.reason is None]
    if usable:
        rows = table("meter", ">power", ">energy", ">resolution", ">period", "measured")
        for shown in usable:
            rows.add_row(
                shown.meter,
                "-" if shown.power_w is None else f"{shown.power_w:.2f} W",
                energy_text(shown.energy_mj),
                energy_text(shown.resolution_mj),
                "-" if shown.period_s is None else f"{shown.period_s * 1000:g} ms",
                "no" if shown.estimated else "yes",
            )
        out.print(rows)
        out.print()
        for shown in usable:
            out.print(f"{shown.meter}: {shown.covers}")
    else:
        out.print("Nothing measures energy here.")
    for shown in found:
        if shown.reason is not None:
            out.print(f"\n{shown.meter} cannot be used here: {shown.reason}")


def energy_text(energy_mj: float | None) -> str:
    """Returns millijoules with the unit that suits them, e.g. ``12.3 J``."""
    if energy_mj is None:
        return "-"
    for factor, unit in _ENERGIES:
        if energy_mj >= factor:
            return f"{energy_mj / factor:.1f} {unit}"
    return f"{energy_mj:.2g} mJ"


_TICK_S = 0.02


@dataclass(frozen=True, slots=True)
class Shown:
    """What one meter showed, or why there is nothing.

    Attributes:
        meter: The spec that opens it, or a kind that this machine lacks.
        reason: Why it cannot be used; None where it can.
        power_w: Mean power over the interval in watts; None where it cannot be told.
        energy_mj: What it showed last, in millijoules since some moment of its own.
        covers: What the energy is spent on.
        resolution_mj: Its smallest step in millijoules.
        period_s: Seconds between two new values.
        estimated: Whether nothing is measured.
    """

    meter: str
    reason: str | None = None
    power_w: float | None = None
    energy_mj: float | None = None
    covers: str | None = None
    resolution_mj: float | None = None
    period_s: float | None = None
    estimated: bool | None = None


def show_one(spec: str, interval_s: float, system: Path) -> Shown:
    """Returns what one meter shows.

    Args:
        spec: As ``open_meter`` takes it.
        interval_s: How long to watch it, in seconds.
        system: Where sysfs is mounted.

    Raises:
        MeterError: There is no such meter, or it cannot be read.
    """
    with ExitStack() as stack:
        watch = _Watch(spec, stack.enter_context(closing(open_meter(spec, system=system))))
        _watch([watch], interval_s)
    if watch.reason is not None:
        raise MeterError(watch.reason)
    return watch.shown()


def show_all(interval_s: float, system: Path) -> list[Shown]:
    """Returns what every meter of this machine shows, and why kinds are missing.

    Args:
        interval_s: How long to watch them, all at once, in seconds.
        system: Where sysfs is mounted.
    """
    watches: list[_Watch] = []
    with ExitStack() as stack:
        for kind in MEASURING:
            try:
                specs = meter_specs(kind, system)
            except MeterError as error:
                watches.append(_Watch(kind, reason=str(error)))
                continue
            for spec in specs:
                try:
                    meter = stack.enter_context(closing(open_meter(spec, system=system)))
                    watches.append(_Watch(spec, meter))
                except MeterError as error:
                    watches.append(_Watch(spec, reason=str(error)))
        _watch(watches, interval_s)
    return [watch.shown() for watch in watches]


def power_w(readings: Sequence[Reading]) -> float | None:
    """Returns the mean power in watts, None where the readings do not tell it.

    A counter moves in steps: what counts is the time from its first to its last one.

    Args:
        readings: One meter's, at least one.
    """
    moved = [
        after for before, after in pairwise(readings) if after.energy_mj != before.energy_mj
    ]
    first, last = (moved[0], moved[-1]) if len(moved) > 1 else (readings[0], readings[-1])
    passed_s = (last.time_ns - first.time_ns) * 1e-9
    spent_mj = last.energy_mj - first.energy_mj
    return spent_mj / passed_s / 1000 if passed_s > 0 and spent_mj >= 0 else None


@dataclass(slots=True)
class _Watch:
    """A meter that is watched, or why it is not."""

    spec: str
    meter: Meter | None = None
    reason: str | None = None
    readings: list[Reading] = field(default_factory=list)

    def read(self) -> None:
        if self.meter is None or self.reason is not None:
            return
        try:
            self.readings.append(self.meter.read())
        except MeterError as error:
            self.reason = str(error)

    def shown(self) -> Shown:
        if self.meter is None or self.reason is not None:
            return Shown(self.spec, self.reason)
        return Shown(
            self.meter.name,
            None,
            power_w(self.readings),
            self.readings[-1].energy_mj,
            self.meter.covers,
            self.meter.resolution_mj,
            self.meter.period_s,
            self.meter.estimated,
        )


def _watch(watches: Sequence[_Watch], interval_s: float) -> None:
    """Reads the meters over the interval; does not wait where there are none."""
    end_s = time.monotonic() + interval_s
    while any(watch.meter is not None for watch in watches):
        last = time.monotonic() >= end_s
        for watch in watches:
            watch.read()
        if last:
            return
        time.sleep(max(0.0, min(_TICK_S, end_s - time.monotonic())))
