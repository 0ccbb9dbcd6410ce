"""Refuses numbers that no device gave: arithmetic on them would overflow.

The readers of the formats take any finite number. A page of a file that somebody made up is to
end in an error, not in a traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.report import ReportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.bundle.manifest import Manifest
    from skipc.tools.trtbench.results.report import Report
    from skipc.tools.trtbench.results.summary import Summary

    Found = Iterable[tuple[str, float]]

_MOST = 1e18
# A picosecond and 30 years, in milliseconds: a float holds every interval of their ratios.
_LEAST_COST, _MOST_COST = 1e-9, 1e12
_METRICS = ("accuracy", "latency_ms", "energy_mj")


def check_manifest(manifest: Manifest, where: str) -> None:
    """Checks what is drawn of a manifest.

    Raises:
        ReportError: A number is too large.
    """
    units = ((f"unit {u.name!r}", v) for u in manifest.units for v in (u.macs, u.parameters))
    _check(where, units)
    for entry in manifest.configurations:
        who = f"configuration {entry.name!r}"
        checked = entry.verification
        _check(where, ((who, value) for value in (entry.macs, entry.parameters)))
        _check(where, ((who, entry.metrics.get(key, 0.0)) for key in _METRICS))
        _check(where, ((who, value) for value in (checked.relative_error, checked.tolerance)))


def check_engines(engines: EngineSet, where: str) -> None:
    """Checks the latencies of engines.

    Raises:
        ReportError: A latency is too large or too small.
    """
    for entry in engines.engines:
        for row in entry.latency:
            times = (row.p50_ms, row.p95_ms, row.p99_ms)
            _check(where, ((f"configuration {entry.configuration!r}", ms) for ms in times),
                   _LEAST_COST, _MOST_COST)  # fmt: skip


def check_report(report: Report, where: str) -> None:
    """Checks the measurements of a result.

    Raises:
        ReportError: A latency or an energy is too large or too small.
    """
    _check(where, _measured(report), _LEAST_COST, _MOST_COST)
    _check(where, _may_be_zero(report))


def _measured(report: Report) -> Iterator[tuple[str, float]]:
    for entry in report.configurations:
        found = [entry.load_ms, entry.first_call_ms, *_latencies(entry.latency)]
        if entry.energy is not None:
            found += entry.energy.windows_mj
        yield from ((f"configuration {entry.name!r}", value) for value in found)
    for baseline in report.baselines:
        for calls in baseline.configurations:
            found = [calls.first_call_ms, *_latencies(calls.latency)]
            found += [] if calls.load_ms is None else [calls.load_ms]
            yield from ((f"baseline {baseline.name!r}", value) for value in found)
    if report.switching is not None:
        steady, first = report.switching.steady_ms, report.switching.first_ms
        yield from (("switching", ms) for ms in steady.values())
        yield from (("switching", ms) for row in first.values() for ms in row.values())


def _latencies(summary: Summary | None) -> list[float]:
    if summary is None:
        return []
    found = [summary.min_ms, summary.max_ms, summary.median_ms, summary.mean_ms]
    return [*found, *summary.batch_medians_ms, *(p.ms for p in summary.percentiles)]


def _may_be_zero(report: Report) -> Iterator[tuple[str, float]]:
    """Yields memory, phases and errors."""
    for entry in report.configurations:
        memory, phases = entry.memory, entry.phases
        disk, host, device = memory.disk, memory.host, memory.device
        found: list[float] = [disk.own_bytes, disk.shared_bytes, device.own_bytes]
        found += [device.shared_bytes, device.taken_bytes]
        found += [] if host is None else [host.own_bytes, host.shared_bytes]
        if phases is not None:
            times = (phases.latency, phases.enqueue, phases.h2d, phases.compute, phases.d2h)
            found += [each.median_ms for each in times if each is not None]
        yield from ((f"configuration {entry.name!r}", value) for value in found)
    for baseline in report.baselines:
        for calls in baseline.configurations:
            yield f"baseline {baseline.name!r}", calls.relative_error


def _check(where: str, found: Found, least: float = 0.0, most: float = _MOST) -> None:
    for who, value in found:
        if not least <= abs(value) <= most:
            number = f"{value:g}" if isinstance(value, float) else f"{str(value)[:30]} ..."
            raise ReportError(
                f"{where}: {who}: {number} is no number that was measured: expected"
                f" {least:g} to {most:g}. The file was altered; make it anew."
            )
