"""What ``skipc show`` prints of the tables that ``trtbench --update`` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime.bundle.device import this_device
from skipc.runtime.bundle.measured import all_tables
from skipc.runtime.bundle.records import written
from skipc.tools.console import table

if TYPE_CHECKING:
    from rich.console import Console

    from skipc.runtime import Bundle
    from skipc.runtime.bundle.device import Device


def print_measured(bundle: Bundle, out: Console) -> None:
    """Prints a line for each table: for what it holds, and the range of what it says."""
    found = all_tables(bundle)
    if not found:
        return
    engines = {name: bundle.engine_set(name).files_sha256() for name in bundle.targets()}
    here = this_device()
    out.print("\nmeasured on devices", style="bold")
    rows = table("target", ">threads", "day", ">p50 ms", ">mJ", "device")
    for one in found:
        key = one.key
        rows.add_row(
            key.target,
            str(key.threads),
            one.created_utc[:10],
            _range([row.p50_ms for row in one.rows]),
            _range([row.energy_mj for row in one.rows if row.energy_mj is not None]),
            _device(key.device, here)
            if engines.get(key.target) == key.engines_sha256
            else "not used: of engines that were replaced since",
        )
    out.print(rows)


def measured_json(bundle: Bundle) -> list[dict[str, object]]:
    """Returns the documents of all tables."""
    return [written(found) for found in all_tables(bundle)]


def _device(device: Device, here: Device) -> str:
    if device == here:
        return "this one, as it is now"
    mode = device.power_mode or "mode not told"
    return f"this one, {mode}" if device.name == here.name else f"{device.name}; {mode}"


def _range(values: list[float]) -> str:
    if not values:
        return "-"
    low, high = min(values), max(values)
    return f"{low:.3g}" if low == high else f"{low:.3g}-{high:.3g}"
