"""What ``skipc meters`` prints."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
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
    meter = open_meter(spec, system=system)
    with ExitStack() as stack:
        stack.callback(meter.close)
        (watched,) = _watch([meter], interval_s)
    if isinstance(watched, MeterError):
        raise watched
    return _shown(meter, watched)


def show_all(interval_s: float, system: Path) -> list[Shown]:
    """Returns what every meter of this machine shows, and why kinds are missing.

    Args:
        interval_s: How long to watch them, all at once, in seconds.
        system: Where sysfs is mounted.
    """
    found: list[Shown | Meter] = []
    with ExitStack() as stack:
        for spec, reason in _specs(system):
            if reason is not None:
                found.append(Shown(spec, reason))
                continue
            try:
                meter = open_meter(spec, system=system)
            except MeterError as error:
                found.append(Shown(spec, str(error)))
            else:
                stack.callback(meter.close)
                found.append(meter)
        meters = [one for one in found if not isinstance(one, Shown)]
        watched = iter(_watch(meters, interval_s) if meters else [])
    return [
        one if isinstance(one, Shown) else _shown_or_failed(one, next(watched))
        for one in found
    ]


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


def _specs(system: Path) -> list[tuple[str, str | None]]:
    """Returns the specs of this machine; for a kind that it lacks, the kind and why."""
    found: list[tuple[str, str | None]] = []
    for kind in MEASURING:
        try:
            found += [(spec, None) for spec in meter_specs(kind, system)]
        except MeterError as error:
            found.append((kind, str(error)))
    return found


def _watch(meters: Sequence[Meter], interval_s: float) -> list[list[Reading] | MeterError]:
    """Returns the readings of each meter over the interval, or why there are none."""
    watched: list[list[Reading] | MeterError] = [[] for _ in meters]
    end_s = time.monotonic() + interval_s
    while True:
        last = time.monotonic() >= end_s
        for index, meter in enumerate(meters):
            readings = watched[index]
            if not isinstance(readings, MeterError):
                try:
                    readings.append(meter.read())
                except MeterError as error:
                    watched[index] = error
        if last:
            return watched
        time.sleep(max(0.0, min(_TICK_S, end_s - time.monotonic())))


def _shown_or_failed(meter: Meter, watched: list[Reading] | MeterError) -> Shown:
    if isinstance(watched, MeterError):
        return Shown(meter.name, str(watched))
    return _shown(meter, watched)


def _shown(meter: Meter, readings: list[Reading]) -> Shown:
    return Shown(
        meter.name,
        None,
        power_w(readings),
        readings[-1].energy_mj,
        meter.covers,
        meter.resolution_mj,
        meter.period_s,
        meter.estimated,
    )
