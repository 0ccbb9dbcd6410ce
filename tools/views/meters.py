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
_TICK_S = 0.02


@dataclass(slots=True)
class Watched:
    """A meter that is watched, or why it is not.

    Attributes:
        name: The meter's, or the spec that should open it, or a kind that this machine lacks.
        meter: The meter; None where it cannot be used.
        reason: Why it cannot be used; None where it can.
        readings: What it showed, at least once.
    """

    name: str
    meter: Meter | None = None
    reason: str | None = None
    readings: list[Reading] = field(default_factory=list)

    def read(self) -> None:
        """Reads it once more; a meter that cannot be read is not used any more."""
        if self.meter is None:
            return
        try:
            self.readings.append(self.meter.read())
        except MeterError as error:
            self.meter, self.reason = None, str(error)


def print_meters(found: Sequence[Watched], out: Console) -> None:
    """Prints what each meter shows, what it covers, and why others cannot be used."""
    usable = [(each, meter) for each in found if (meter := each.meter) is not None]
    if usable:
        rows = table("meter", ">power", ">energy", ">resolution", ">period", "measured")
        for each, meter in usable:
            watts, period_s = power_w(each.readings), meter.period_s
            rows.add_row(
                each.name,
                "-" if watts is None else f"{watts:.2f} W",
                energy_text(each.readings[-1].energy_mj),
                energy_text(meter.resolution_mj),
                "-" if period_s is None else f"{period_s * 1000:g} ms",
                "no" if meter.estimated else "yes",
            )
        out.print(rows)
        out.print()
        for each, meter in usable:
            out.print(f"{each.name}: {meter.covers}")
    else:
        out.print("Nothing measures energy here.")
    for each in found:
        if each.reason is not None:
            out.print(f"\n{each.name} cannot be used here: {each.reason}")


def meter_json(found: Watched) -> dict[str, object]:
    """Returns the same of one meter as JSON; ``null`` where nothing is known."""
    meter = found.meter
    keys = ("covers", "resolution_mj", "period_s", "estimated")
    return {
        "meter": found.name,
        "reason": found.reason,
        "power_w": None if meter is None else power_w(found.readings),
        "energy_mj": None if meter is None else found.readings[-1].energy_mj,
        **{key: getattr(meter, key, None) for key in keys},
    }


def energy_text(energy_mj: float | None) -> str:
    """Returns millijoules with the unit that suits them, e.g. ``12.3 J``."""
    if energy_mj is None:
        return "-"
    for factor, unit in _ENERGIES:
        if energy_mj >= factor:
            return f"{energy_mj / factor:.1f} {unit}"
    return f"{energy_mj:.2g} mJ"


def watch(spec: str | None, interval_s: float, system: Path) -> list[Watched]:
    """Returns what one meter shows, or every meter of this machine, and why kinds are missing.

    Args:
        spec: As ``open_meter`` takes it; None for all.
        interval_s: How long to watch them, all at once, in seconds.
        system: Where sysfs is mounted.

    Raises:
        MeterError: There is no such meter, or it cannot be read.
    """
    found: list[Watched] = []
    with ExitStack() as stack:

        def opened(spec: str) -> Watched:
            meter = stack.enter_context(closing(open_meter(spec, system=system)))
            return Watched(meter.name, meter)

        if spec is not None:
            found.append(opened(spec))
        for kind in MEASURING if spec is None else ():
            try:
                specs = meter_specs(kind, system)
            except MeterError as error:
                found.append(Watched(kind, reason=str(error)))
                continue
            for each in specs:
                try:
                    found.append(opened(each))
                except MeterError as error:
                    found.append(Watched(each, reason=str(error)))
        end_s, last = time.monotonic() + interval_s, False
        while not last and any(watched.meter is not None for watched in found):
            last = time.monotonic() >= end_s
            for watched in found:
                watched.read()
            time.sleep(0 if last else max(0.0, min(_TICK_S, end_s - time.monotonic())))
    if spec is not None and found[0].reason is not None:
        raise MeterError(found[0].reason)
    return found


def power_w(readings: Sequence[Reading]) -> float | None:
    """Returns the mean power in watts, None where the readings do not tell it.

    A counter moves in steps: what counts is the time from its first to its last one.
    """
    moved = [
        after for before, after in pairwise(readings) if after.energy_mj != before.energy_mj
    ]
    first, last = (moved[0], moved[-1]) if len(moved) > 1 else (readings[0], readings[-1])
    passed_s = (last.time_ns - first.time_ns) * 1e-9
    spent_mj = last.energy_mj - first.energy_mj
    return spent_mj / passed_s / 1000 if passed_s > 0 and spent_mj >= 0 else None
