"""A trace in numbers, as ``skipc trace`` prints them and its pictures say them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from skipc.tools.console import plural, table
from skipc.tools.trace.columns import columns_of
from skipc.tools.trace.energy import mean_power_w
from skipc.tools.views.meters import energy_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from skipc.runtime.call.trace import Trace, TracedCall
    from skipc.tools.trace.columns import Columns, Flags


@dataclass(frozen=True, slots=True)
class ConfigurationSummary:
    """What one configuration did; None where nothing is known.

    Attributes:
        rank: Higher is more accurate.
        calls: Calls that ran it, failed ones included.
        share: Their share of all calls, between 0 and 1.
        failures: Calls that gave no outputs; they are in neither latency.
        energy_mj: Of a call, as expected when it was chosen, on average; of a configuration
            that never ran, as expected at the end.
        stages: By stage of its route, the share of its calls that was answered there; empty
            where all were by the first, as where there is one.
        cut: The share of its calls that a hard deadline stopped.
        units: By unit that gates decided about, the share of its rows that it ran for; empty
            without gates.
    """

    configuration: str
    rank: float
    calls: int
    share: float | None
    failures: int
    median_ms: float | None
    p99_ms: float | None
    energy_mj: float | None
    stages: tuple[float, ...] = ()
    cut: float = 0.0
    units: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """A trace in numbers; docs/traces.md says what each is. None where nothing is known.

    Attributes:
        ranked_by: What the ranks are: ``accuracy``, ``macs`` or ``rank``.
        cut_short: Whether the file ended within a line, whose call is missing.
        limited_calls: Those that had a limit of latency and gave outputs.
        within_limit: The share of these that kept it, between 0 and 1.
        feasible_limited_calls: Those that were expected to keep their budget, too.
        power_source: ``metered``, ``assumed`` by a meter that measures nothing, or what the
            calls were ``expected`` to take.
        configurations: The most accurate first.
        modes: By power mode, the share of the calls that were made in it; empty without.
        mode_changes: How often one call was made in another mode than the call before.
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
    power_source: str | None
    mean_accuracy: float | None
    configurations: tuple[ConfigurationSummary, ...]
    modes: Mapping[str, float] = field(default_factory=dict)
    mode_changes: int = 0


def summary_of(trace: Trace) -> Summary:
    """Returns the numbers of a trace."""
    columns = columns_of(trace)
    first_s, last_s = columns.extent_s
    done = ~columns.failed
    limited = done & ~np.isnan(columns.limit_ms)
    feasible = limited & columns.feasible
    within = columns.latency_ms <= columns.limit_ms
    power_w, source = mean_power_w(columns)
    modes = [call.mode for call in columns.calls]
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
        power_source=source,
        mean_accuracy=float(ranks[columns.chosen[done]].mean()) if accurate else None,
        configurations=tuple(
            _configuration(columns, index) for index in range(len(columns.configurations))
        ),
        modes={mode: modes.count(mode) / len(modes) for mode in sorted({*modes} - {""})},
        mode_changes=sum(mode != before for before, mode in pairwise(modes)),
    )


def _configuration(columns: Columns, index: int) -> ConfigurationSummary:
    traced, own = columns.configurations[index], columns.chosen == index
    took_ms = columns.latency_ms[own & ~columns.failed]
    calls = int(own.sum())
    done = [columns.calls[at] for at in np.flatnonzero(own & ~columns.failed)]
    counts = np.bincount([call.stage for call in done]) if done else np.zeros(0)
    routed = any(call.stage or call.stopped_by != "end" for call in done)
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
        stages=tuple((counts / len(done)).tolist()) if routed else (),
        cut=sum(call.stopped_by == "deadline" for call in done) / max(len(done), 1),
        units=_units(done),
    )


def _units(calls: Sequence[TracedCall]) -> dict[str, float]:
    """Returns for which share each unit ran, of the calls in which gates decided about it."""
    found: dict[str, list[float]] = defaultdict(list)
    for call in calls:
        for unit, share in call.units.items():
            found[unit].append(share)
    return {unit: sum(shares) / len(shares) for unit, shares in found.items()}


def _share(wanted: Flags, among: Flags) -> float | None:
    return float(wanted[among].mean()) if among.any() else None


_POWER_SOURCES = {
    "metered": "metered",
    "assumed": "an estimate: the meter measures nothing, it takes a power for granted",
    "expected": "an estimate: what the calls were expected to take",
}
_HEADINGS = ("configuration", ">calls", ">share", ">median", ">p99", ">energy")


def numbers_of(summary: Summary) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns headings, and a row for each configuration; exits and gates where some did."""
    routed = any(one.stages for one in summary.configurations)
    gated = any(one.units for one in summary.configurations)
    rows = []
    for one in summary.configurations:
        units = f"{sum(one.units.values()):.1f} of {len(one.units)}" if one.units else "-"
        exits = " / ".join(f"{100 * share:.0f}" for share in one.stages)
        rows.append(
            (
                one.configuration,
                str(one.calls),
                _percent(one.share),
                _ms(one.median_ms),
                _ms(one.p99_ms),
                energy_text(one.energy_mj),
                *((f"{exits} %" if exits else "-", _percent(one.cut)) if routed else ()),
                *((units,) if gated else ()),
            )
        )
    more = (*((">answered at", ">cut") if routed else ()), *((">units run",) if gated else ()))
    return (*_HEADINGS, *more), rows


def sentences(summary: Summary) -> list[str]:
    """Returns what happened as a whole, a sentence each."""
    switches = f"{summary.switches} switch{'' if summary.switches == 1 else 'es'}"
    whole = f"{plural(summary.calls, 'call')} in {summary.duration_s:.4g} s"
    counts = f"{switches}, {summary.infeasible_calls} infeasible, {summary.failures} failed"
    said = [f"{whole}: {counts}."]
    if summary.within_limit is None:
        said.append("No call that gave outputs had a limit of latency.")
    else:
        feasible = summary.feasible_within_limit
        among = "" if feasible is None else f"; {_percent(feasible)} of the feasible ones"
        said.append(f"Within the limit: {_percent(summary.within_limit)}{among}.")
    if summary.mean_power_w is None or summary.power_source is None:
        said.append("Nothing is known of the power.")
    else:
        source = _POWER_SOURCES[summary.power_source]
        said.append(f"Mean power: {summary.mean_power_w:.4g} W, {source}.")
    if summary.modes:
        shares = ", ".join(
            f"{mode} {_percent(share)}" for mode, share in summary.modes.items()
        )
        said.append(
            f"Power modes: {shares} of the calls, {plural(summary.mode_changes, 'change')}."
        )
    if summary.mean_accuracy is not None:
        said.append(f"Mean accuracy: {summary.mean_accuracy:.4f}.")
    return said


def print_trace(summary: Summary, pictures: Sequence[Path], out: Console) -> None:
    """Prints a table of the configurations, then the whole."""
    headings, told = numbers_of(summary)
    rows = table(*headings)
    for cells in told:
        rows.add_row(*cells)
    out.print(rows)
    out.print()
    for sentence in sentences(summary):
        out.print(sentence)
    if pictures:
        out.print(f"Written: {', '.join(map(str, pictures))}", soft_wrap=True)


def trace_json(path: Path, summary: Summary, pictures: Sequence[Path]) -> dict[str, object]:
    """Returns the same as a JSON document; shares are between 0 and 1."""
    return {
        "trace": str(path),
        **asdict(summary),
        "pictures": [str(picture) for picture in pictures],
    }


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    # Not all of them is not to be rounded to all of them.
    return f"{100 * share if share == 1 else min(100 * share, 99.9):.1f} %"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} ms"
