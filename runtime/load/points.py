"""From a bundle to operating points: how accurate and how fast each configuration is."""

from __future__ import annotations

import logging
from dataclasses import replace
from operator import mul
from statistics import median
from typing import TYPE_CHECKING

from ..bundle.device import this_device
from ..bundle.measured import all_tables, find_table, table_key, tables_of_modes
from ..bundle.route import upto_ends
from ..errors import BundleError, ChoiceError, ModeError
from ..governor import OperatingPoint
from ..governor.modes import Mode
from ..governor.operating_point import OnAverage, SizeFactor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..bundle.engines import EngineEntry, EngineSet, Latency
    from ..bundle.folder import Bundle
    from ..bundle.manifest import ConfigurationEntry, Manifest
    from ..bundle.measured import MeasuredTable, Row, TableKey
    from ..bundle.route import Stage

_LOG = logging.getLogger(__name__)

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
    """Returns ``operating_points``, from the table measured on this device if there is one."""
    table = None
    if engines is not None:
        key = table_key(bundle, engines, this_device(), threads)
        table = find_table(bundle, key)
        if table is None:
            _tell_other_modes(bundle, key)
    return operating_points(bundle.manifest, engines, threads, table)


def points_in_modes(
    bundle: Bundle, engines: EngineSet | None, threads: int, names: Sequence[str]
) -> dict[str, tuple[Mode, str]]:
    """Returns what was measured on this device in each of some power modes, by its name.

    And how the device told the mode then.

    Raises:
        ModeError: One of them was not measured.
    """
    tables: Mapping[str, MeasuredTable] = {}
    if engines is not None:
        key = table_key(bundle, engines, this_device(), threads)
        tables = tables_of_modes(bundle, key, names)
    missing = [name for name in names if name not in tables]
    if missing:
        raise ModeError(
            f"{bundle.path}: nothing was measured on this device, with {threads} threads, in"
            f" the mode {missing[0]!r}. Measure it: trtbench {bundle.path} --update --modes"
            f" {','.join(names)}"
        )
    found = {}
    for name in names:
        table = tables[name]
        change_ms = {} if table.mode is None else table.mode.change_ms
        points = operating_points(bundle.manifest, engines, threads, table)
        found[name] = Mode(name, points, change_ms), table.key.device.power_mode
    return found


def _tell_other_modes(bundle: Bundle, key: TableKey) -> None:
    """Warns where only tables of other power modes of this device are there."""
    device = key.device
    try:
        tables = all_tables(bundle)
    except BundleError:  # one that is damaged is not of this device and mode
        return
    modes = {
        each.key.device.power_mode
        for each in tables
        if replace(each.key, device=device) == key and each.key.device.name == device.name
    }
    if modes:
        _LOG.warning(
            "%s: this device was measured in the power mode %s, and is in %r now: what was"
            " measured is not used. Change the mode, or measure: trtbench %s --update",
            bundle.path,
            " and ".join(repr(mode) for mode in sorted(modes)),
            device.power_mode,
            bundle.path,
        )


def operating_points(
    manifest: Manifest,
    engines: EngineSet | None,
    threads: int,
    measured: MeasuredTable | None = None,
) -> tuple[OperatingPoint, ...]:
    """Returns one point per configuration, in the manifest's order.

    A configuration takes what the stages of its route take together; where rows stop at each
    of several, its quantiles are those of all rows (``stops``). The latency of a stage's
    engine is, in this order: what was measured on this device (``source`` is ``measured``);
    its table for ``threads`` (``table``). Where no engine has a table, the latency is the
    front's ``latency_ms`` if every configuration has one above zero (``front``); else the MACs
    at the speed of the engines that have a table, or at a guessed speed (``macs``). The energy
    is what was measured, else the front's.
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
        macs, energy_mj = manifest.macs(entry), max(entry.metrics.get("energy_mj", 0.0), 0.0)
        upto_macs = upto_ends(entry.route, [manifest.graph(name).macs for name in names])
        tabled = all(name in rows for name in names)
        if tabled:
            known = [rows[name] for name in names]
            times = [(row.p50_ms, row.p95_ms, row.p99_ms) for row in known]
        else:
            whole_ms = entry.metrics["latency_ms"] if by_front else max(macs, 1) * ms_per_mac
            shares = [max(manifest.graph(name).macs, 1) for name in names]
            longest = max(upto_ends(entry.route, shares))
            times = [(whole_ms * (share / longest),) * 3 for share in shares]
        seen_mj = [energies_mj.get(name) for name in names]
        if None not in seen_mj:
            upto_mj = upto_ends(entry.route, [mj or 0.0 for mj in seen_mj])
            energy_mj = sum(map(mul, entry.stops, upto_mj))
        sizes = [built.get(graph.name, graph) for graph in manifest.graphs_of(entry)]
        (p50_ms, p95_ms, p99_ms), upto_ms, upto_p99_ms = _whole(entry, times)
        answering = [n for n, stage in enumerate(entry.route) if stage.answers_at(n)]
        points.append(
            OperatingPoint(
                configuration=entry.name,
                rank=entry.metrics["accuracy"] if by_accuracy else float(macs),
                p50_ms=p50_ms,
                p95_ms=p95_ms,
                p99_ms=p99_ms if tabled or upto_ms else None,
                source=source if tabled else "front" if by_front else "macs",
                energy_mj=energy_mj,
                weights_bytes=sum(each.weights_bytes for each in sizes),
                own_bytes=sum(each.own_bytes for each in sizes),
                upto_ms=upto_ms,
                upto_p99_ms=upto_p99_ms,
                mean_ms=sum(map(mul, entry.stops, upto_ms)),
                curve=_curve(entry, upto_ms, None if by_accuracy else upto_macs),
                first_answer=min(answering, key=lambda n: upto_ms[n]) if upto_ms else 0,
                by_size=_by_size(manifest, entry, built, threads, times),
            )
        )
    return tuple(points)


def _by_size(
    manifest: Manifest,
    entry: ConfigurationEntry,
    built: Mapping[str, EngineEntry],
    threads: int,
    times: Sequence[Sequence[float]],
) -> tuple[SizeFactor, ...]:
    """Returns how much longer a route takes at sizes that all its engines were measured at.

    ``times`` are as for ``_whole``, at the typical sizes.
    """
    factors: list[dict[tuple[int, ...], float]] = []
    for stage in entry.route:
        engine = built.get(stage.graph)
        if engine is None or not engine.latency:
            return ()
        usual = row_for(engine.latency, threads)
        factors.append(
            {
                tuple(row.sizes[each.name] for each in manifest.dimensions): row.p50_ms
                / usual.p50_ms
                for row in engine.by_size
                if row.threads == usual.threads
            }
        )
    usual_ms = _whole(entry, [(time[0],) * 3 for time in times])[0][0]
    found = []
    for sizes in factors[0]:
        if all(sizes in known for known in factors):
            at = [(t[0] * k[sizes],) * 3 for t, k in zip(times, factors, strict=True)]
            found.append(SizeFactor(sizes, _whole(entry, at)[0][0] / usual_ms))
    return tuple(found)


def _whole(
    entry: ConfigurationEntry, times: Sequence[Sequence[float]]
) -> tuple[Sequence[float], tuple[float, ...], tuple[float, ...]]:
    """Returns a route's quantiles over all rows, and median and 99 % up to each stage's end.

    Rows that stop at an earlier stage are taken to be faster than those that stop at a later
    one: so a quantile of all rows is one of those that stop at one stage. ``times`` are the
    50th, 95th and 99th percentile of each stage's engine.
    """
    if len(times) == 1:
        return times[0], (), ()
    upto = [upto_ends(entry.route, quantile) for quantile in zip(*times, strict=True)]
    stops = [
        (OperatingPoint("", 0.0, *quantiles), share)
        for quantiles, share in zip(zip(*upto, strict=True), entry.stops, strict=True)
        if share > 0
    ]
    stops.sort(key=lambda stop: stop[0].p50_ms)
    found: list[float] = []
    for wanted in (0.50, 0.95, 0.99):
        before = 0.0
        for point, share in stops:
            if wanted <= before + share or point is stops[-1][0]:
                found.append(max([point.quantile_ms((wanted - before) / share), *found]))
                break
            before += share
    return found, tuple(upto[0]), tuple(upto[2])


def _curve(
    entry: ConfigurationEntry, upto_ms: Sequence[float], upto_macs: Sequence[float] | None
) -> tuple[OnAverage, ...]:
    """Returns what the biases of a configuration's router come to; empty without one.

    Ranks are accuracies, or mean MACs where those up to the end of each stage are given.
    """
    curve = () if entry.routed is None else entry.routed.curve
    found = []
    for at in curve:
        rank = at.accuracy if upto_macs is None else sum(map(mul, at.stops, upto_macs))
        found.append(OnAverage(at.bias, rank, sum(map(mul, at.stops, upto_ms))))
    return tuple(found)


def _ms_per_mac(manifest: Manifest, tables: Mapping[str, Latency]) -> float:
    speeds = [
        tables[graph.name].p50_ms / max(graph.macs, 1)
        for graph in manifest.graphs
        if graph.name in tables
    ]
    return median(speeds) if speeds else GUESSED_MS_PER_MAC


def points_by_name(points: Sequence[OperatingPoint]) -> dict[str, OperatingPoint]:
    """Returns the points by configuration; ``ChoiceError`` if none, or two of one name."""
    named = {point.configuration: point for point in points}
    if not named or len(named) < len(points):
        names = [point.configuration for point in points]
        raise ChoiceError(f"expected points with a name each and at least one, found {names}.")
    return named


def check_stages(
    points: Mapping[str, OperatingPoint], routes: Mapping[str, Sequence[Stage]]
) -> None:
    """Raises ``ChoiceError`` where a point does not say what each stage of its route takes."""
    for name, route in routes.items():
        known = len(points[name].upto_ms)
        if len(route) > 1 and known != len(route):
            raise ChoiceError(
                f"operating point {name!r}: upto_ms has {known} numbers, but its route has"
                f" {len(route)} stages. Give the median latency up to the end of each."
            )


def row_for(table: Sequence[Latency], threads: int) -> Latency:
    """Returns the row of a latency table that stands for ``threads`` threads.

    That is the row with this count; else the one with the next smaller count, which is slower
    and so errs on the safe side; else the one with the smallest count.
    """
    below = [row for row in table if row.threads <= threads]
    if below:
        return max(below, key=lambda row: row.threads)
    return min(table, key=lambda row: row.threads)
