"""What ``trtbench`` prints: a report, two of them compared, the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from skipc.tools.console import facts, plural, size_text, table
from skipc.tools.trtbench.compare import doubts
from skipc.tools.trtbench.loop import MOST_ROUNDS

if TYPE_CHECKING:
    from rich.console import Console

    from skipc.tools.trtbench.compare import Change, Comparison
    from skipc.tools.trtbench.latency import RatioInterval, Times
    from skipc.tools.trtbench.probes import Profile
    from skipc.tools.trtbench.report import Measured, Report, Share

T = TypeVar("T")
Cells = Iterable[tuple[str, str | float | None]]
"""The columns of a row by title, numbers as ms; of those to the right it begins with ``>``."""

_MOST_LAYERS = 15
_LONGEST_LAYER = 36
_PHASES: dict[str, str] = {
    "by events, ms": "latency",
    "enqueue, ms": "enqueue",
    "H2D, ms": "h2d",
    "compute, ms": "compute",
    "D2H, ms": "d2h",
}
_CONDITIONS: dict[str, tuple[str, str]] = {
    "temperature_c": ("hottest zone", "C"),
    "cpu_mhz": ("CPU", "MHz"),
    "gpu_mhz": ("GPU", "MHz"),
}


def print_report(report: Report, out: Console) -> None:
    """Prints a report: regime, tables, warnings."""
    entries = {entry.name: entry for entry in report.configurations}
    regime, best = report.regime, entries[report.reference].accuracy
    _print_regime(report, out)
    _print_each(out, "latency, ms", entries, lambda one: _times(one.latency))
    _print_each(
        out, "\nconfiguration", entries, lambda one: _throughput(one, regime.average_runs)
    )
    for title, phase in _PHASES.items():
        found = {name: getattr(one.phases, phase, None) for name, one in entries.items()}
        _print_each(out, title, found, _times)
    on_device = regime.way is not None
    _print_each(out, "\nconfiguration", entries, lambda one: _loading(one, on_device))
    _print_each(out, "memory", entries, _memory)
    _print_each(out, f"over {report.reference}", entries, lambda one: _over(one, best))
    if report.switching is not None:
        before, after, ratio = report.switching.worst()
        out.print("Intervals hold what varies within this run; another start differs by more.")
        out.print(
            f"\nWorst switch: the first call of {after} after one of {before} takes"
            f" {ratio:.2f} of the median of its calls that follow."
        )
    if report.plain_not_run:
        out.print(f"\nThe baseline plain was not run: {report.plain_not_run}")
    _print_each(out, "\nplain sessions", entries, _plain)
    _print_each(out, "\nplain sessions", entries, _plain_loading)
    if (meter := regime.meter) is not None:
        kind = "energy, estimated" if meter.estimated else "energy"
        _print_each(out, kind, entries, _energy)
        out.print(f"What the meter {meter.name} covers: {meter.covers}.")
    for doubt in doubts(report):
        out.print(f"\nWarning: {doubt}")


def _times(one: Times | None) -> Cells:
    if one is not None:
        yield ">min", one.min_ms
        yield ">mean", one.mean_ms
        yield ">median", one.median_ms
        yield from ((f">{percent} %", ms) for percent, ms in one.percentiles_ms.items())
        yield ">max", one.max_ms


def _throughput(entry: Measured, average_runs: int) -> Cells:
    if (one := entry.latency) is not None:
        per_s = one.throughput_per_s
        yield ">\nruns", str(one.runs)
        yield ">throughput\nper s", f"{per_s:.4g}" if per_s < 1000 else f"{per_s:.0f}"
        yield ">\nvariation", f"{one.coefficient_of_variation:.1%}"
        yield f">averages of {average_runs}\nlowest", one.lowest_average_ms
        yield ">ms\nhighest", one.highest_average_ms


def _loading(one: Measured, on_device: bool) -> Cells:
    yield ">load\nms", one.load_ms
    yield ">first call\nms", one.first_call_ms
    if one.load_parts is not None:
        yield ">deserialise\nms", one.load_parts.deserialize_ms
        yield ">refit\nms", one.load_parts.refit_ms
    if on_device:
        yield ">device memory\ntaken", size_text(one.memory.device.taken_bytes)


def _memory(one: Measured) -> Cells:
    for place in ("disk", "host", "device"):
        share: Share | None = getattr(one.memory, place)
        yield f">on {place}\nown", None if share is None else size_text(share.own_bytes)
        yield ">\nshared", None if share is None else size_text(share.shared_bytes)


def _over(one: Measured, best: float | None) -> Cells:
    if (over := one.over_reference) is not None:
        yield ">latency", f"{over.ratio:.3f}"
        yield ">95 %", over.ends_text
        points = None
        if best is not None and one.accuracy is not None:
            points = f"{100 * (one.accuracy - best):+.2f} points"
        yield ">accuracy", points
        yield "", over.verdict()


def _plain(entry: Measured) -> Cells:
    one = entry.plain
    if one is not None and one.latency is not None and (over := one.over_ours) is not None:
        yield ">median\nms", one.latency.median_ms
        yield ">over\nours", f"{over.ratio:.3f}"
        yield ">\n95 %", over.ends_text
        yield "", who_is_faster(over)


def _plain_loading(entry: Measured) -> Cells:
    if (one := entry.plain) is not None:
        yield ">load\nms", one.load_ms
        yield ">first call\nms", one.first_call_ms
        yield ">outputs differ\nby", f"{one.relative_error:.2g}"


def _energy(entry: Measured) -> Cells:
    if (one := entry.energy) is not None:
        yield ">mJ per call", f"{one.mean_mj:.4g}"
        yield ">+-", None if one.spread_mj is None else f"{one.spread_mj:.2g}"
        yield ">windows", str(len(one.windows_mj))


def who_is_faster(over: RatioInterval) -> str:
    """Returns who is faster, of a plain session's latency over ours."""
    ours = {"slower": "ours is faster", "faster": "ours is slower"}
    return ours.get(over.verdict(), over.verdict())


def print_comparison(found: Comparison, out: Console) -> None:
    """Prints what changed between two reports."""
    for difference in found.differences:
        out.print(f"Not alike: {difference}")
    _print_each(out, "configuration", found.changes, _change)
    for name, one in found.changes.items():
        if one.unlike_its_median:
            out.print(
                f"\n{name}: its mean and its slowest calls changed otherwise than its"
                f" median: mean {_ms(one.old.mean_ms)} to {_ms(one.new.mean_ms)} ms, slowest"
                f" {_ms(one.old.max_ms)} to {_ms(one.new.max_ms)} ms."
            )
    if found.common_factor is not None:
        out.print(
            f"\nAll changed by about the same factor, {found.common_factor:.3f}: it may be the"
            " machine that changed (clock, heat, neighbours). Measure both again in turn."
        )
    out.print(
        "\nThe intervals hold what varies within a run. From one start of the program to the"
        " next more does; the margin (--margin) stands for that."
    )


def _change(one: Change) -> Cells:
    yield ">old ms", one.old.median_ms
    yield ">new ms", one.new.median_ms
    yield ">new/old", f"{one.interval.ratio:.3f}"
    yield ">95 %", one.interval.ends_text
    yield "verdict", one.verdict


def print_profiles(profiles: Mapping[str, Profile], out: Console) -> None:
    """Prints each graph's layers, as trtexec does, but the slowest first."""
    for graph, profile in profiles.items():
        ordered = sorted(profile.items(), key=lambda layer: -layer[1].sum())
        calls, all_ms = len(ordered[0][1]), sum(ms.sum() for _, ms in ordered) or 1.0
        rest = dict(ordered[_MOST_LAYERS:])
        groups = {_shortened(name): [times_ms] for name, times_ms in ordered[:_MOST_LAYERS]}
        groups |= {f"the {len(rest)} others together": [*rest.values()]} if rest else {}
        made = table(">Time(ms)", ">Avg.(ms)", ">Median(ms)", ">Time(%)", "Layer")
        for name, times_ms in {**groups, "all layers": [*profile.values()]}.items():
            total_ms = float(np.sum(times_ms))
            middle = f"{np.median(times_ms):.4f}" if len(times_ms) == 1 else "-"
            share, average = f"{100 * total_ms / all_ms:.1f}", f"{total_ms / calls:.4f}"
            made.add_row(f"{total_ms:.3f}", average, middle, share, name)
        told = f"{plural(calls, 'call')} in a run of its own, slower for being profiled"
        out.print(f"\n{graph}: {told}")
        out.print(made)


def _shortened(name: str) -> str:
    """Returns a layer's name that fits the table; the file has all of it."""
    half = (_LONGEST_LAYER - 1) // 2
    return name if len(name) <= _LONGEST_LAYER else f"{name[:half]}…{name[-half:]}"


def _print_regime(report: Report, out: Console) -> None:
    regime, stop, meter = report.regime, report.regime.stop, report.regime.meter
    runs = max((latency.runs for latency in report.timed.values()), default=0)
    full = runs >= MOST_ROUNDS * regime.streams
    before, after = asdict(regime.before), asdict(regime.after)
    changed = (
        f"{what} {before[key]:.0f} to {after[key]:.0f} {unit}"
        for key, (what, unit) in _CONDITIONS.items()
        if before[key] is not None and after[key] is not None
    )
    dropped = plural(regime.warm_up_rounds, "round")
    warm_up = f"warm-up {stop.warm_up_ms:g} ms ({dropped} dropped)"
    least = f"at least {stop.duration_s:g} s and {plural(stop.iterations, 'call')} each"
    most = f", at most {MOST_ROUNDS} (reached)" if full else ""
    kind = "estimated, nothing is measured" if meter and meter.estimated else "measured"
    threads, cases = plural(regime.threads, "thread"), plural(regime.cases, "case")
    lines = facts(
        ("backend", f"{regime.backend}, target {regime.target}, {threads}"),
        ("a call", regime.call_text),
        ("phases", regime.phases_text if runs else ""),
        ("device", regime.device),
        ("power", regime.power_mode or "mode not told by this system"),
        ("meanwhile", ", ".join(changed)),
        ("versions", _pairs(regime.versions)),
        ("inputs", f"{_pairs(regime.inputs)}; {cases} in turn"),
        ("loop", f"by turns; {warm_up}, {least}{most}" if runs else ""),
        ("streams", regime.streams_text),
        ("meter", f"{meter.name}: {meter.covers} ({kind})" if meter else "none"),
    )
    out.print(regime.bundle, style="bold")
    out.print(lines)


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in values.items())


def _print_each(
    out: Console, title: str, entries: Mapping[str, T], cells: Callable[[T], Cells]
) -> None:
    """Prints a row for each entry that has cells; nothing where none has."""
    rows = {name: list(cells(one)) for name, one in entries.items()}
    filled = {name: row for name, row in rows.items() if row}
    if filled:
        made = table(title, *(column for column, _ in next(iter(filled.values()))))
        for name, row in filled.items():
            shown_row = (one if isinstance(one, str) else _ms(one) for _, one in row)
            made.add_row(name, *shown_row)
        out.print("\n", end="")
        out.print(made)


def _ms(value_ms: float | None) -> str:
    """Returns milliseconds with four digits, e.g. ``0.03214`` or ``12.35``."""
    if value_ms is None:
        return "-"
    return f"{value_ms:.0f}" if value_ms >= 1000 else f"{value_ms:.4g}"
