"""What makes a report's numbers doubtful: ``trtexec``'s warnings, one of each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skipc.tools.trtbench.results.report import Report

_LEAST_RUNS = 10
_MOST_VARIATION = 0.025
_MOST_ENQUEUEING = 0.8  # of the computation, by medians: trtexec's number


def doubts(report: Report) -> tuple[str, ...]:
    """Returns the warnings about a report, each with the configurations that it is about."""
    found = (_crowded, _unstable, _few, _ungraphed, _enqueue_bound, _transfers)
    return tuple(text for text in (doubt(report) for doubt in found) if text)


def _crowded(report: Report) -> str:
    streams = report.regime.streams
    if streams == 1:
        return ""
    return (
        f"{streams} calls run at the same time and share the cores: what one takes holds its"
        " waiting for the others. Compare throughput; for latency measure again with"
        " --infStreams=1."
    )


def _unstable(report: Report) -> str:
    found = [
        f"{entry.name} {entry.latency.variation:.1%}"
        for entry in report.configurations
        if entry.latency is not None and entry.latency.variation > _MOST_VARIATION
    ]
    if not found:
        return ""
    return (
        f"unstable latency, with a coefficient of variation above {_MOST_VARIATION:.1%}:"
        f" {', '.join(found)}. Fix the clock's frequency, stop other programs, or measure"
        " longer (--duration)."
    )


def _few(report: Report) -> str:
    found = [
        f"{entry.name} {entry.latency.runs}"
        for entry in report.configurations
        if entry.latency is not None and entry.latency.runs < _LEAST_RUNS
    ]
    if not found:
        return ""
    return (
        f"too few runs to rely on: {', '.join(found)}. Measure {_LEAST_RUNS} or more"
        " (--iterations, --duration)."
    )


def _ungraphed(report: Report) -> str:
    way = report.regime.way
    found = [
        entry.name
        for entry in report.configurations
        if entry.phases is not None and not entry.phases.graph
    ]
    if way is None or not way.graph or not found:
        return ""
    return (
        f"phases measured without a CUDA graph: {', '.join(found)}. None could be captured, or"
        " the inputs are not of the typical batch."
    )


def _enqueue_bound(report: Report) -> str:
    found = [
        entry.name
        for entry in report.configurations
        if entry.phases is not None
        and entry.phases.enqueue.median_ms > _MOST_ENQUEUEING * entry.phases.compute.median_ms
    ]
    if not found:
        return ""
    return (
        f"enqueueing takes more than {_MOST_ENQUEUEING} of the computation's median:"
        f" {', '.join(found)}. The host may set the pace, not the GPU. Use CUDA graphs, or a"
        " larger batch."
    )


def _transfers(report: Report) -> str:
    found = []
    for entry in report.configurations:
        phases = entry.phases
        if phases is None:
            continue
        moved = [times.median_ms for times in (phases.h2d, phases.d2h) if times is not None]
        if max(moved, default=-1.0) >= phases.compute.median_ms:
            found.append(entry.name)
    if not found:
        return ""
    return (
        f"copying in or out takes as long as computing, or longer: {', '.join(found)}."
        " --noDataTransfers shows what calls take whose arrays stay on the GPU."
    )
