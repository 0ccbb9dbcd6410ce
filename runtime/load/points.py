"""From a bundle to operating points: how accurate and how fast each configuration is."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from ..bundle.device import this_device
from ..bundle.measured import find_table, table_key
from ..errors import ChoiceError
from ..governor import OperatingPoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..bundle.engines import EngineSet, Latency
    from ..bundle.folder import Bundle
    from ..bundle.manifest import Manifest
    from ..bundle.measured import MeasuredTable

GUESSED_MS_PER_MAC = 1e-8
"""100 G MAC/s; only the ratios matter, as the first call sets the scale."""


def ranked_by(manifest: Manifest) -> str:
    """Returns what stands for accuracy: ``accuracy`` if every configuration has it.

    Otherwise ``macs``: a subnet that computes more is taken to be more accurate.
    """
    known = all("accuracy" in entry.metrics for entry in manifest.configurations)
    return "accuracy" if known else "macs"


def points_here(
    bundle: Bundle, engines: EngineSet | None, threads: int
) -> tuple[OperatingPoint, ...]:
    """Returns ``operating_points``, from the table measured on this device if there is one.

    Raises:
        BundleError: The table is not as FORMAT.md says.
    """
    table = None
    if engines is not None:
        table = find_table(bundle, table_key(bundle, engines, this_device(), threads))
    return operating_points(bundle.manifest, engines, threads, table)


def operating_points(
    manifest: Manifest,
    engines: EngineSet | None,
    threads: int,
    measured: MeasuredTable | None = None,
) -> tuple[OperatingPoint, ...]:
    """Returns one point per configuration, in the manifest's order.

    The latency of a configuration is, in this order: what was measured on this device
    (``source`` is ``measured``); its engine's table for ``threads`` (``table``); where no
    engine has a table, the front's ``latency_ms`` if every configuration has one above zero
    (``front``); else its MACs at the speed of the configurations that have a table, or at a
    guessed speed (``macs``). The energy is what was measured, else the front's.

    Args:
        manifest: The bundle's.
        engines: The target's engines, or None where there are none.
        threads: Threads that a call runs on.
        measured: The table for this device, these engines and ``threads``, if there is one.
    """
    entries = manifest.configurations
    built = {engine.configuration: engine for engine in engines.engines} if engines else {}
    tables = {name: row_for(e.latency, threads) for name, e in built.items() if e.latency}
    front = [entry.metrics.get("latency_ms", 0.0) for entry in entries]
    accuracy = ranked_by(manifest) == "accuracy"
    speeds = [
        tables[entry.name].p50_ms / max(entry.macs, 1)
        for entry in entries
        if entry.name in tables
    ]
    ms_per_mac = median(speeds) if speeds else GUESSED_MS_PER_MAC
    points = []
    for entry, front_ms in zip(entries, front, strict=True):
        energy_mj = entry.metrics.get("energy_mj", 0.0)
        if measured is not None:
            here = measured.row(entry.name)
            p50_ms, p95_ms, p99_ms, source = here.p50_ms, here.p95_ms, here.p99_ms, "measured"
            energy_mj = energy_mj if here.energy_mj is None else here.energy_mj
        elif entry.name in tables:
            row = tables[entry.name]
            p50_ms, p95_ms, p99_ms, source = row.p50_ms, row.p95_ms, row.p99_ms, "table"
        elif not tables and min(front) > 0:
            p50_ms, p95_ms, p99_ms, source = front_ms, front_ms, None, "front"
        else:
            p50_ms = p95_ms = max(entry.macs, 1) * ms_per_mac
            p99_ms, source = None, "macs"
        sizes = built.get(entry.name, entry)
        points.append(
            OperatingPoint(
                configuration=entry.name,
                rank=entry.metrics["accuracy"] if accuracy else float(entry.macs),
                p50_ms=p50_ms,
                p95_ms=p95_ms,
                p99_ms=p99_ms,
                source=source,
                energy_mj=max(energy_mj, 0.0),
                weights_bytes=sizes.weights_bytes,
                own_bytes=sizes.own_bytes,
            )
        )
    return tuple(points)


def points_by_name(points: Sequence[OperatingPoint]) -> dict[str, OperatingPoint]:
    """Returns the points by configuration.

    Raises:
        ChoiceError: There is none, or two have one name.
    """
    named = {point.configuration: point for point in points}
    if not named or len(named) < len(points):
        names = [point.configuration for point in points]
        raise ChoiceError(f"expected points with a name each and at least one, found {names}.")
    return named


def row_for(table: Sequence[Latency], threads: int) -> Latency:
    """Returns the row of a latency table that stands for ``threads`` threads.

    That is the row with this count; else the one with the next smaller count, which is
    slower and so errs on the safe side; else the one with the smallest count.

    Args:
        table: At least one row.
        threads: Threads that a call runs on.
    """
    below = [row for row in table if row.threads <= threads]
    if below:
        return max(below, key=lambda row: row.threads)
    return min(table, key=lambda row: row.threads)
