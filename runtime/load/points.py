"""From a bundle to operating points: how accurate and how fast each configuration is."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from ..bundle.device import this_device
from ..bundle.measured import find_table, table_key
from ..errors import ChoiceError
from ..governor import OperatingPoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..bundle.engines import EngineSet, Latency
    from ..bundle.folder import Bundle
    from ..bundle.manifest import Manifest
    from ..bundle.measured import MeasuredTable, Row

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

    A configuration takes what the stages of its route take together. The latency of a stage's
    engine is, in this order: what was measured on this device (``source`` is ``measured``);
    its table for ``threads`` (``table``). Where no engine has a table, the latency is the
    front's ``latency_ms`` if every configuration has one above zero (``front``); else the MACs
    at the speed of the engines that have a table, or at a guessed speed (``macs``). The energy
    is what was measured, else the front's.

    Args:
        manifest: The bundle's.
        engines: The target's engines, or None where there are none.
        threads: Threads that a call runs on.
        measured: The table for this device, these engines and ``threads``, if there is one.
    """
    built = {engine.graph: engine for engine in engines.engines} if engines else {}
    tables = {name: row_for(e.latency, threads) for name, e in built.items() if e.latency}
    rows: Mapping[str, Latency | Row] = tables
    source, energies_mj = "table", {}
    if measured is not None:
        rows, source = {row.graph: row for row in measured.rows}, "measured"
        energies_mj = {row.graph: row.energy_mj for row in measured.rows}
    front = [entry.metrics.get("latency_ms", 0.0) for entry in manifest.configurations]
    by_front = not rows and min(front) > 0
    ms_per_mac = _ms_per_mac(manifest, tables)
    by_accuracy = ranked_by(manifest) == "accuracy"
    points = []
    for entry in manifest.configurations:
        names = [stage.graph for stage in entry.route]
        macs = manifest.macs(entry)
        if all(name in rows for name in names):
            known = [rows[name] for name in names]
            p50_ms, p95_ms = sum(r.p50_ms for r in known), sum(r.p95_ms for r in known)
            p99_ms: float | None = sum(row.p99_ms for row in known)
            found = source
        else:
            p50_ms = entry.metrics["latency_ms"] if by_front else max(macs, 1) * ms_per_mac
            p95_ms, p99_ms = p50_ms, None
            found = "front" if by_front else "macs"
        seen_mj = [energies_mj.get(name) for name in names]
        energy_mj = max(entry.metrics.get("energy_mj", 0.0), 0.0)
        if None not in seen_mj:
            energy_mj = sum(filter(None, seen_mj))
        sizes = [built.get(graph.name, graph) for graph in manifest.graphs_of(entry)]
        points.append(
            OperatingPoint(
                configuration=entry.name,
                rank=entry.metrics["accuracy"] if by_accuracy else float(macs),
                p50_ms=p50_ms,
                p95_ms=p95_ms,
                p99_ms=p99_ms,
                source=found,
                energy_mj=energy_mj,
                weights_bytes=sum(each.weights_bytes for each in sizes),
                own_bytes=sum(each.own_bytes for each in sizes),
            )
        )
    return tuple(points)


def _ms_per_mac(manifest: Manifest, tables: Mapping[str, Latency]) -> float:
    speeds = [
        tables[graph.name].p50_ms / max(graph.macs, 1)
        for graph in manifest.graphs
        if graph.name in tables
    ]
    return median(speeds) if speeds else GUESSED_MS_PER_MAC


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
