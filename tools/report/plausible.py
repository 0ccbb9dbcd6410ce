"""Refuses numbers that no device gave: arithmetic on them would overflow.

The readers of the formats take any finite number. A page of a file that somebody made up is to
end in an error, not in a traceback.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from skipc.tools.report import ReportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.bundle.manifest import Manifest
    from skipc.tools.trtbench.report import Report

    Found = Iterable[tuple[str, float]]

_MOST = 1e18
# A picosecond and 30 years, in milliseconds: a float holds every interval of their ratios.
_LEAST_COST, _MOST_COST = 1e-9, 1e12
_COSTS = ("_ms", "_mj")
_METRICS = ("accuracy", "latency_ms", "energy_mj")


def check_manifest(manifest: Manifest, where: str) -> None:
    """Checks what is drawn of a manifest.

    Raises:
        ReportError: A number is too large.
    """
    for axis in manifest.axes:
        for option in manifest.options(axis):
            who = f"option {option.name!r} of the axis {axis!r}"
            _check(where, ((who, value) for value in (option.macs, option.parameters)))
    for graph in manifest.graphs:
        who, checked = f"graph {graph.name!r}", graph.verification
        _check(where, ((who, value) for value in (graph.macs, graph.parameters)))
        _check(where, ((who, value) for value in (checked.relative_error, checked.tolerance)))
    for entry in manifest.configurations:
        who = f"configuration {entry.name!r}"
        _check(where, ((who, entry.metrics.get(key, 0.0)) for key in _METRICS))


def check_engines(engines: EngineSet, where: str) -> None:
    """Checks the latencies of engines.

    Raises:
        ReportError: A latency is too large or too small.
    """
    for entry in engines.engines:
        for row in entry.latency:
            times = (row.p50_ms, row.p95_ms, row.p99_ms)
            _check(where, ((f"graph {entry.graph!r}", ms) for ms in times),
                   _LEAST_COST, _MOST_COST)  # fmt: skip


def check_report(report: Report, where: str) -> None:
    """Checks the measurements of a result.

    Raises:
        ReportError: A number is too large, or a latency or an energy too small.
    """
    parts = {f"configuration {entry.name!r}": entry for entry in report.configurations}
    for who, part in {**parts, "switching": report.switching}.items():
        found = [] if part is None else list(_numbers(asdict(part)))
        costs = [(who, value) for cost, value in found if cost and value]
        _check(where, costs, _LEAST_COST, _MOST_COST)
        _check(where, ((who, value) for _, value in found))


def _numbers(value: object, cost: bool = False) -> Iterator[tuple[bool, float]]:
    """Yields the numbers in a document, and whether each is of milliseconds or millijoules."""
    if isinstance(value, (int, float)):
        yield cost, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, cost or (key.endswith(_COSTS) and key != "spread_mj"))
    elif isinstance(value, tuple):
        for inner in value:
            yield from _numbers(inner, cost)


def _check(where: str, found: Found, least: float = 0.0, most: float = _MOST) -> None:
    for who, value in found:
        if not least <= abs(value) <= most:
            number = f"{value:g}" if isinstance(value, float) else f"{str(value)[:30]} ..."
            raise ReportError(
                f"{where}: {who}: {number} is no number that was measured: expected"
                f" {least:g} to {most:g}. The file was altered; make it anew."
            )
