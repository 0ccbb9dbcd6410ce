"""A trace in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipc.tools.trace.columns import columns_of
from skipc.tools.trace.energy import mean_power_w

if TYPE_CHECKING:
    from skipc.runtime.call.trace import Trace
    from skipc.tools.trace.columns import Columns, Flags


@dataclass(frozen=True, slots=True)
class ConfigurationSummary:
    """What one configuration did.

    Attributes:
        configuration: Its name.
        rank: Higher is more accurate.
        calls: Calls that ran it, failed ones included.
        share: Their share of all calls, between 0 and 1; None without calls.
        failures: Calls that gave no outputs.
        median_ms: Median latency of the calls that gave outputs; None without such.
        p99_ms: Their 99th percentile, interpolated.
        energy_mj: Energy of a call, as expected when it was chosen, on average; of a
            configuration that never ran, as expected at the end. None if nothing was known.
    """

    configuration: str
    rank: float
    calls: int
    share: float | None
    failures: int
    median_ms: float | None
    p99_ms: float | None
    energy_mj: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A trace in numbers.

    Attributes:
        engine: What was traced.
        ranked_by: What the ranks are: ``accuracy``, ``macs`` or ``rank``.
        cut_short: Whether the file ended within a line, whose call is missing.
        calls: Calls, failed ones included.
        duration_s: From the start of the first to the end of the last.
        limited_calls: Those that had a limit of latency and gave outputs.
        within_limit: The share of these that kept it, between 0 and 1; None without any.
        feasible_limited_calls: Those that were expected to keep their budget, too.
        feasible_within_limit: The share of these that kept the limit.
        switches: Calls that ran another configuration than the one before.
        infeasible_calls: Calls whose budget nothing was predicted to meet.
        failures: Calls that gave no outputs.
        mean_power_w: None if nothing was known.
        power_is_metered: Whether it was measured; else it is what the calls were expected to
            take, without what is taken between them.
        mean_accuracy: Over the calls that gave outputs; None unless ranked by it.
        configurations: The most accurate first.
    """

    engine: str
    ranked_by: str
    cut_short: bool
    calls: int
    duration_s: float
    limited_calls: int
    within_limit: float | None
    feasible_limited_calls: int
    feasible_within_limit: float | None
    switches: int
    infeasible_calls: int
    failures: int
    mean_power_w: float | None
    power_is_metered: bool
    mean_accuracy: float | None
    configurations: tuple[ConfigurationSummary, ...]


def summary_of(trace: Trace) -> Summary:
    """Returns the numbers of a trace."""
    columns = columns_of(trace)
    first_s, last_s = columns.extent_s
    done = ~columns.failed
    limited = done & ~np.isnan(columns.limit_ms)
    feasible = limited & columns.feasible
    within = columns.latency_ms <= columns.limit_ms
    power_w, metered = mean_power_w(columns)
    ranks = np.array([each.rank for each in columns.configurations], float)
    accurate = trace.ranked_by == "accuracy" and bool(done.any())
    return Summary(
        engine=trace.engine,
        ranked_by=trace.ranked_by,
        cut_short=trace.cut_short,
        calls=len(columns),
        duration_s=last_s - first_s,
        limited_calls=int(limited.sum()),
        within_limit=_share(within, limited),
        feasible_limited_calls=int(feasible.sum()),
        feasible_within_limit=_share(within, feasible),
        switches=int(np.count_nonzero(np.diff(columns.chosen))),
        infeasible_calls=int((~columns.feasible).sum()),
        failures=int(columns.failed.sum()),
        mean_power_w=power_w,
        power_is_metered=metered,
        mean_accuracy=float(ranks[columns.chosen[done]].mean()) if accurate else None,
        configurations=tuple(
            _configuration(columns, index) for index in range(len(columns.configurations))
        ),
    )


def _configuration(columns: Columns, index: int) -> ConfigurationSummary:
    traced, own = columns.configurations[index], columns.chosen == index
    took_ms = columns.latency_ms[own & ~columns.failed]
    calls = int(own.sum())
    energies_mj = columns.energy_mj[own] if calls else np.array([traced.energy_mj], float)
    return ConfigurationSummary(
        configuration=traced.name,
        rank=traced.rank,
        calls=calls,
        share=calls / len(columns) if len(columns) else None,
        failures=int((own & columns.failed).sum()),
        median_ms=float(np.median(took_ms)) if len(took_ms) else None,
        p99_ms=float(np.quantile(took_ms, 0.99)) if len(took_ms) else None,
        energy_mj=float(energies_mj.mean()) if (energies_mj > 0).all() else None,
    )


def _share(wanted: Flags, among: Flags) -> float | None:
    return float(wanted[among].mean()) if among.any() else None
