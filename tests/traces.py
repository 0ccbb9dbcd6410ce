"""Traces written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime import Budget
from skipc.runtime.call.trace import Trace, TracedCall, TracedConfiguration, trace_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONFIGURATIONS = (
    TracedConfiguration("fast", 0.90, 2.0, 20.0),
    TracedConfiguration("full", 0.96, 8.0, 80.0),
    TracedConfiguration("mid", 0.93, 4.0, 40.0),
)
FREE = Budget()


def call(
    time_s: float,
    configuration: str = "full",
    latency_ms: float = 8.0,
    *,
    limit_ms: float | None = None,
    feasible: bool = True,
    failure: str = "",
    budget: Budget = FREE,
    energy_mj: float = 0.0,
    metered_mj: float | None = None,
    reason: str = "it is the best.",
    stage: int = 0,
    stopped_by: str = "end",
    route: tuple[str, ...] = (),
) -> TracedCall:
    """A call that ended at ``time_s``."""
    return TracedCall(
        time_s,
        configuration,
        stage,
        stopped_by,
        latency_ms,
        1.2 * latency_ms,
        feasible,
        "" if feasible else "latency",
        limit_ms,
        budget,
        energy_mj,
        metered_mj,
        failure,
        reason,
        route,
    )


def trace(
    calls: Sequence[TracedCall] = (),
    configurations: Sequence[TracedConfiguration] = CONFIGURATIONS,
    engine: str = "net.skipc",
    ranked_by: str = "accuracy",
    meter_estimated: bool = False,
) -> Trace:
    """A trace of these calls."""
    return Trace(engine, ranked_by, tuple(configurations), meter_estimated, tuple(calls))


def write(path: Path, written: Trace) -> Path:
    """Writes a trace as an application does; returns the path."""
    path.write_text("".join(trace_lines(written)), encoding="utf-8")
    return path
