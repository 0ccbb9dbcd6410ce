"""From a bundle to operating points: how accurate and how fast each configuration is."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from .errors import ChoiceError
from .governor import OperatingPoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .engines import EngineSet, Latency
    from .manifest import Manifest

GUESSED_MS_PER_MAC = 1e-8
"""100 G MAC/s; only the ratios matter, as the first call sets the scale."""


def ranked_by(manifest: Manifest) -> str:
    """Returns what stands for accuracy: ``accuracy`` if every configuration has it.

    Otherwise ``macs``: a subnet that computes more is taken to be more accurate.
    """
    known = all("accuracy" in entry.metrics for entry in manifest.configurations)
    return "accuracy" if known else "macs"


def operating_points(
    manifest: Manifest, engines: EngineSet | None, threads: int
) -> tuple[OperatingPoint, ...]:
    """Returns one point per configuration, in the manifest's order.

    The latency of a configuration is, in this order: its engine's table for ``threads``
    (``source`` is ``table``); where no engine has a table, the front's ``latency_ms`` if
    every configuration has one above zero (``front``); else its MACs at the speed of the
    configurations that have a table, or at a guessed speed (``macs``).

    Args:
        manifest: The bundle's.
        engines: The target's engines, or None where there are none.
        threads: Threads that a call runs on.
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
        if entry.name in tables:
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
                energy_mj=max(entry.metrics.get("energy_mj", 0.0), 0.0),
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
