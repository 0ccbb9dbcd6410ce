"""What was measured, whatever measured it: one series of every chart."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from skipc.tools.console import plural
from skipc.tools.trtbench.compare import doubts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skipc.runtime.bundle.device import Conditions
    from skipc.runtime.bundle.engines import EngineSet, Latency
    from skipc.runtime.bundle.manifest import ConfigurationEntry, Manifest
    from skipc.tools.trtbench.latency import RatioInterval
    from skipc.tools.trtbench.report import (
        Energy,
        Measured,
        Memory,
        PhaseSummary,
        PlainCalls,
        Regime,
        Report,
        Switching,
    )


class Origin(Enum):
    """Where latencies come from; the value is shown."""

    BENCHMARK = "trtbench"
    ENGINES = "the engines' table"
    FRONT = "the front's latency_ms"


@dataclass(frozen=True, slots=True)
class Quantile:
    """A latency with the share of the calls that were at most as slow.

    Attributes:
        label: Such as ``median`` or ``99 %``.
        ms: Milliseconds.
    """

    label: str
    ms: float


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured of one configuration.

    Attributes:
        configuration: Its name.
        median_ms: Its median latency; None if only loading was timed.
        quantiles: Ascending, the median among them.
        batch_medians_ms: Medians of stretches of the run, in the order of time; may be empty.
        runs: How many calls were measured; 0 where that is not known.
        ratio: Its latency over the reference's; None for the reference, or if unknown.
        energy: Its energy per call; None if that was not measured.
        load_ms: What loading took; None if that was not measured.
        first_call_ms: What the first call took; likewise.
        memory: What it takes, by place; likewise.
        phases: Calls taken apart; likewise, or where the backend cannot.
        plain: A plain session of the same, in the same rounds; likewise.
    """

    configuration: str
    median_ms: float | None
    quantiles: tuple[Quantile, ...]
    batch_medians_ms: tuple[float, ...]
    runs: int
    ratio: RatioInterval | None = None
    energy: Energy | None = None
    load_ms: float | None = None
    first_call_ms: float | None = None
    memory: Memory | None = None
    phases: PhaseSummary | None = None
    plain: PlainCalls | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One series: one device, one way to run.

    Attributes:
        label: Its name in the charts, unique in the report.
        origin: Where the numbers come from.
        reference: The configuration that ratios are over.
        points: In the manifest's order.
        switching: The cost of switches; None if that was not measured.
        energy_is_estimated: Whether its energy was computed, not metered.
        plain_not_run: Why plain sessions could not be run beside it; empty where they were,
            or were not asked for.
        conditions: What is known of how it was measured, by name.
        warnings: What makes the numbers doubtful.
    """

    label: str
    origin: Origin
    reference: str
    points: tuple[Point, ...]
    conditions: tuple[tuple[str, str], ...]
    switching: Switching | None = None
    energy_is_estimated: bool = False
    plain_not_run: str = ""
    warnings: tuple[str, ...] = ()

    def point(self, configuration: str) -> Point | None:
        """Returns what was measured of a configuration; None if nothing was."""
        return next((p for p in self.points if p.configuration == configuration), None)


def of_report(report: Report, path: Path, order: Sequence[str]) -> Measurement:
    """Returns what ``trtbench`` measured.

    Args:
        report: What it wrote.
        path: The file that it was read from.
        order: The configurations in the manifest's order.
    """
    regime = report.regime
    entries = sorted(report.configurations, key=lambda entry: order.index(entry.name))
    meter, least = regime.meter, plural(regime.stop.iterations, "call")
    conditions = [
        ("file", path.name),
        ("measured", regime.created_utc),
        ("device", regime.device),
        ("power mode", regime.power_mode or "not known"),
        ("before", _state(regime.before)),
        ("after", _state(regime.after)),
        ("a call", regime.call_text),
        *_taken_apart(report),
        ("backend", regime.backend),
        ("target", regime.target),
        ("threads", str(regime.threads)),
        *((("streams", regime.streams_text),) if regime.streams_text else ()),
        *((("measured beside", "plain sessions"),) if report.plain else ()),
        ("inputs", ", ".join(f"{name} {text}" for name, text in regime.inputs.items())),
        ("duration", f"at least {regime.stop.duration_s:g} s and {least} each"),
        ("meter", "none" if meter is None else f"{meter.name} ({meter.covers})"),
        ("versions", ", ".join(f"{name} {text}" for name, text in regime.versions.items())),
    ]  # fmt: skip
    return Measurement(
        label=_label(regime),
        origin=Origin.BENCHMARK,
        reference=report.reference,
        points=tuple(map(_measured, entries)),
        switching=report.switching,
        energy_is_estimated=meter is not None and meter.estimated,
        plain_not_run=report.plain_not_run,
        conditions=tuple(conditions),
        warnings=doubts(report),
    )


def _label(regime: Regime) -> str:
    streams = f", {regime.streams} streams" if regime.streams > 1 else ""
    return f"{regime.target}, {plural(regime.threads, 'thread')}{streams}"


def _taken_apart(report: Report) -> tuple[tuple[str, str], ...]:
    if all(entry.phases is None for entry in report.configurations):
        return ()
    return (("phases", report.regime.phases_text),)


def _state(found: Conditions) -> str:
    told = (
        ("", found.temperature_c, "\u202f°C"),
        ("CPU ", found.cpu_mhz, "\u202fMHz"),
        ("GPU ", found.gpu_mhz, "\u202fMHz"),
    )
    known = (f"{what}{value:.0f}{unit}" for what, value, unit in told if value is not None)
    return ", ".join(known) or "the system does not tell"


def _measured(entry: Measured) -> Point:
    latency = entry.latency
    quantiles: list[Quantile] = []
    if latency is not None:
        named = {
            float(percent): Quantile(f"{float(percent):.6g} %", ms)
            for percent, ms in latency.percentiles_ms.items()
        }
        named |= {
            0.0: Quantile("min", latency.min_ms),
            50.0: Quantile("median", latency.median_ms),
            100.0: Quantile("max", latency.max_ms),
        }
        quantiles = [named[percent] for percent in sorted(named)]
    return Point(
        configuration=entry.name,
        median_ms=None if latency is None else latency.median_ms,
        quantiles=tuple(quantiles),
        batch_medians_ms=() if latency is None else latency.batch_medians_ms,
        runs=0 if latency is None else latency.runs,
        ratio=entry.over_reference,
        energy=entry.energy,
        load_ms=entry.load_ms,
        first_call_ms=entry.first_call_ms,
        memory=entry.memory,
        phases=entry.phases,
        plain=entry.plain,
    )


def of_engines(
    manifest: Manifest, engines: EngineSet, reference: str
) -> tuple[Measurement, ...]:
    """Returns the latency tables of one target's engines, a series per count of threads."""
    counts = sorted({row.threads for entry in engines.engines for row in entry.latency})
    host = tuple((key.replace("_", " "), value) for key, value in engines.host.items())
    return tuple(
        Measurement(
            label=f"{engines.target}, {plural(threads, 'thread')}",
            origin=Origin.ENGINES,
            reference=reference,
            points=tuple(
                _of_rows(entry.name, rows)
                for entry in manifest.configurations
                for rows in [_rows(engines, entry, threads)]
                if rows
            ),
            conditions=(
                ("target", engines.target),
                ("backend", engines.backend),
                ("threads", str(threads)),
                *host,
            ),
        )
        for threads in counts
    )


def _of_rows(name: str, rows: Sequence[Latency]) -> Point:
    """Returns the point of a route whose stages have these rows."""
    quantiles = (
        Quantile("median", sum(row.p50_ms for row in rows)),
        Quantile("95 %", sum(row.p95_ms for row in rows)),
        Quantile("99 %", sum(row.p99_ms for row in rows)),
    )
    return Point(name, quantiles[0].ms, quantiles, (), min(row.runs for row in rows))


def _rows(engines: EngineSet, entry: ConfigurationEntry, threads: int) -> list[Latency]:
    """Returns a row for each stage; none where one was not measured."""
    found = [
        next((r for r in engines.engine(stage.graph).latency if r.threads == threads), None)
        for stage in entry.route
    ]
    rows = [row for row in found if row is not None]
    return rows if len(rows) == len(found) else []


def of_front(manifest: Manifest, reference: str) -> tuple[Measurement, ...]:
    """Returns the latencies that the front brought, if every configuration has one."""
    found = {e.name: e.metrics.get("latency_ms", 0.0) for e in manifest.configurations}
    if min(found.values()) <= 0:
        return ()
    points = tuple(
        Point(name, ms, (Quantile("latency", ms),), (), 0) for name, ms in found.items()
    )
    said = (("source", "latency_ms of the front; the bundle does not say what measured it"),)
    return (Measurement("front", Origin.FRONT, reference, points, said),)
