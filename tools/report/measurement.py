"""What was measured, whatever measured it: one series of every chart."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from skipc.runtime.load.points import operating_points
from skipc.tools.console import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from skipc.runtime.bundle.device import Conditions
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.bundle.manifest import Manifest
    from skipc.tools.trtbench.report import Measured, Report


class Origin(Enum):
    """Where latencies come from; the value is shown."""

    BENCHMARK = "trtbench"
    ENGINES = "the engines' table"
    FRONT = "the front's latency_ms"


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured of one configuration.

    Attributes:
        quantiles: Milliseconds by what they are, such as ``median`` or ``99 %``, ascending.
        median_ms: Its median latency; None if only loading was timed.
        runs: How many calls were measured; 0 where that is not known.
        found: All that ``trtbench`` found; None where it did not measure.
    """

    configuration: str
    quantiles: Mapping[str, float]
    median_ms: float | None
    runs: int = 0
    found: Measured | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One series: one device, one way to run.

    Attributes:
        label: Its name in the charts, unique in the report.
        origin: Where the numbers come from.
        reference: The configuration that ratios are over.
        points: In the manifest's order.
        conditions: What is known of how it was measured, by name.
        report: What ``trtbench`` wrote; None where it did not measure.
    """

    label: str
    origin: Origin
    reference: str
    points: tuple[Point, ...]
    conditions: Mapping[str, str]
    report: Report | None = None

    @property
    def energy_is_estimated(self) -> bool:
        """Whether its energy was computed, not metered."""
        meter = None if self.report is None else self.report.regime.meter
        return meter is not None and meter.estimated


def of_report(report: Report, path: Path, order: Sequence[str]) -> Measurement:
    """Returns what ``trtbench`` wrote to a file; ``order`` is that of the manifest."""
    regime = report.regime
    meter, least = regime.meter, plural(regime.stop.iterations, "call")
    apart = any(entry.phases for entry in report.configurations)
    conditions = {
        "file": path.name,
        "measured": regime.created_utc,
        "device": regime.device,
        "power mode": regime.power_mode or "not known",
        "before": _state(regime.before),
        "after": _state(regime.after),
        "a call": regime.call_text,
        "phases": regime.phases_text if apart else "",
        "backend": regime.backend,
        "target": regime.target,
        "threads": str(regime.threads),
        "streams": regime.streams_text,
        "measured beside": "plain sessions" if report.plain else "",
        "inputs": ", ".join(f"{name} {text}" for name, text in regime.inputs.items()),
        "duration": f"at least {regime.stop.duration_s:g} s and {least} each",
        "meter": "none" if meter is None else f"{meter.name} ({meter.covers})",
        "versions": ", ".join(f"{name} {text}" for name, text in regime.versions.items()),
    }
    streams = f", {regime.streams} streams" if regime.streams > 1 else ""
    return Measurement(
        f"{regime.target}, {plural(regime.threads, 'thread')}{streams}",
        Origin.BENCHMARK,
        report.reference,
        tuple(sorted(map(_measured, report.configurations),
                     key=lambda point: order.index(point.configuration))),
        {what: text for what, text in conditions.items() if text},
        report,
    )  # fmt: skip


def _state(found: Conditions) -> str:
    told = (
        ("", found.temperature_c, "\u202f°C"),
        ("CPU ", found.cpu_mhz, "\u202fMHz"),
        ("GPU ", found.gpu_mhz, "\u202fMHz"),
    )
    known = (f"{what}{value:.0f}{unit}" for what, value, unit in told if value is not None)
    return ", ".join(known) or "the system does not tell"


def _measured(entry: Measured) -> Point:
    one = entry.latency
    if one is None:
        return Point(entry.name, {}, None, found=entry)
    named = {float(p): (f"{float(p):.6g} %", ms) for p, ms in one.percentiles_ms.items()}
    named |= {0: ("min", one.min_ms), 50: ("median", one.median_ms), 100: ("max", one.max_ms)}
    quantiles = dict(named[percent] for percent in sorted(named))
    return Point(entry.name, quantiles, one.median_ms, one.runs, entry)


def of_engines(
    manifest: Manifest, engines: EngineSet, reference: str
) -> Iterator[Measurement]:
    """Yields the latency tables of one target's engines, a series per count of threads."""
    rows = {entry.graph: entry.latency for entry in engines.engines}
    host = {key.replace("_", " "): value for key, value in engines.host.items()}
    made = {"target": engines.target, "backend": engines.backend}
    for threads in sorted({row.threads for latency in rows.values() for row in latency}):
        points = []
        for one in operating_points(manifest, engines, threads):
            graphs = manifest.graphs_of(manifest.configuration(one.configuration))
            runs = [r.runs for g in graphs for r in rows[g.name] if r.threads == threads]
            if len(runs) == len(graphs) and one.p99_ms is not None:
                named = {"median": one.p50_ms, "95 %": one.p95_ms, "99 %": one.p99_ms}
                points.append(Point(one.configuration, named, one.p50_ms, min(runs)))
        yield Measurement(
            f"{engines.target}, {plural(threads, 'thread')}",
            Origin.ENGINES,
            reference,
            tuple(points),
            {**made, "threads": str(threads), **host},
        )


def of_front(manifest: Manifest, reference: str) -> Iterator[Measurement]:
    """Yields the latencies that the front brought, if every configuration has one."""
    found = {e.name: e.metrics.get("latency_ms", 0.0) for e in manifest.configurations}
    if min(found.values()) > 0:
        points = tuple(Point(name, {"latency": ms}, ms) for name, ms in found.items())
        said = "latency_ms of the front; the bundle does not say what measured it"
        yield Measurement("front", Origin.FRONT, reference, points, {"source": said})
