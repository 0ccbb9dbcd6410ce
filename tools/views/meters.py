"""What ``skipc meters`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from skipc.tools.views.meter_survey import Shown

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
