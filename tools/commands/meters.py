"""``skipc meters``: what measures energy here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skipc.tools.console import console, print_json
from skipc.tools.options import PATH
from skipc.tools.views.meters import meter_json, print_meters, watch

if TYPE_CHECKING:
    from pathlib import Path


@click.command("meters")
@click.option(
    "--meter",
    "spec",
    metavar="SPEC",
    help="Only this one: auto, hwmon, hwmon:RAIL, hwmon:RAIL+RAIL, nvml, nvml:PCI-BUS-ID, rapl"
    " or model:WATTS.",
)
@click.option(
    "--seconds",
    "interval_s",
    type=click.FloatRange(0.05, 3600),
    default=1.0,
    help="How long to watch, for the mean power.",
)
@click.option(
    "--sysfs",
    "system",
    type=PATH,
    default="/sys",
    help="Where sysfs is mounted, e.g. a container's view of the host's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(spec: str | None, interval_s: float, system: Path, as_json: bool) -> None:
    """List what measures energy on this machine, what each covers and shows now.

    Kinds that cannot be used are listed with the reason; docs/meters.md says what each
    measures.
    """
    found = watch(spec, interval_s, system)
    if as_json:
        print_json([meter_json(each) for each in found])
    else:
        print_meters(found, console())
