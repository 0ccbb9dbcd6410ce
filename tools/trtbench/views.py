"""What ``trtbench`` prints: a report, two of them compared, the layers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from skipc.tools.console import plural, size_text, table
from skipc.tools.trtbench.compare import doubts
from skipc.tools.trtbench.loop import MOST_ROUNDS

if TYPE_CHECKING:
    from rich.console import Console

    from skipc.tools.trtbench.compare import Change, Comparison
    from skipc.tools.trtbench.latency import Latency, RatioInterval
    from skipc.tools.trtbench.probes import Energy, Profile, Times
    from skipc.tools.trtbench.report import Measured, Memory, PlainCalls, Report, Share

T = TypeVar("T")
Cells = Iterable[tuple[str, str | float | None]]
"""The columns of a row by title; of those to the right it begins with ``>``."""

_INDENT = 12
_MOST_LAYERS = 15
_LONGEST_LAYER = 36
_PHASES: dict[str, str] = {
    "by events, ms": "latency",
    "enqueue, ms": "enqueue",
    "H2D, ms": "h2d",
    "compute, ms": "compute",
    "D2H, ms": "d2h",
}


def print_report(report: Report, out: Console) -> None:
    """Prints a report: regime, tables, warnings."""
    entries, timed = {entry.name: entry for entry in report.configurations}, report.timed
    _print_regime(report, out)
    _print_each(out, "latency, ms", timed, _times)
    average_runs = report.regime.average_runs
    _print_each(out, "\nconfiguration", timed, lambda one: _throughput(one, average_runs))
    for title, phase in _PHASES.items():
        found = {name: getattr(one.phases, phase, None) for name, one in entries.items()}
        _print_each(out, title, {n: one for n, one in found.items() if one}, _times)
    on_device = report.regime.way is not None
    _print_each(out, "\nconfiguration", entries, lambda one: _loading(one, on_device))
    _print_each(out, "memory", entries, lambda one: _memory(one.memory))
    best = entries[report.reference].accuracy
    compared = {name: one for name, one in entries.items() if one.over_reference}
    _print_each(out, f"over {report.reference}", compared, lambda one: _over(one, best))
    if compared:
        out.print("Intervals hold what varies within this run; another start differs by more.")
    if report.switching is not None:
        before, after, ratio = report.switching.worst()
        out.print(
            f"\nWorst switch: the first call of {after} after one of {before} takes"
            f" {ratio:.2f} of the median of its calls that follow."
        )
    if report.plain_not_run:
        out.print(f"\nThe baseline plain was not run: {report.plain_not_run}")
    title, plain = "\nplain sessions", report.plain
    _print_each(out, title, {n: one for n, one in plain.items() if one.latency}, _plain)
    _print_each(out, title, plain, _plain_loading)
    if (meter := report.regime.meter) is not None:
        energies = {name: one.energy for name, one in entries.items() if one.energy}
        _print_each(
            out, "energy, estimated" if meter.estimated else "energy", energies, _energy
        )
        out.print(f"What the meter {meter.name} covers: {meter.covers}.")
    for doubt in doubts(report):
        out.print(f"\nWarning: {doubt}")


def _times(one: Latency | Times) -> Cells:
    yield ">min", one.min_ms
    yield ">mean", one.mean_ms
    yield ">median", one.median_ms
    yield from ((f">{percent} %", ms) for percent, ms in one.percentiles_ms.items())
    yield ">max", one.max_ms


def _throughput(one: Latency, average_runs: int) -> Cells:
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


def _memory(one: Memory) -> Cells:
    for place in ("disk", "host", "device"):
        share: Share | None = getattr(one, place)
        yield f">on {place}\nown", None if share is None else size_text(share.own_bytes)
        yield ">\nshared", None if share is None else size_text(share.shared_bytes)


def _over(one: Measured, best: float | None) -> Cells:
    if (over := one.over_reference) is not None:
        points = None
        if best is not None and one.accuracy is not None:
            points = f"{100 * (one.accuracy - best):+.2f} points"
        yield ">latency", f"{over.ratio:.3f}"
        yield ">95 %", over.ends_text
        yield ">accuracy", points
        yield "", over.verdict


def _plain(one: PlainCalls) -> Cells:
    if one.latency is not None and (over := one.over_ours) is not None:
        yield ">median\nms", one.latency.median_ms
        yield ">over\nours", f"{over.ratio:.3f}"
        yield ">\n95 %", over.ends_text
        yield "", who_is_faster(over)


def _plain_loading(one: PlainCalls) -> Cells:
    yield ">load\nms", one.load_ms
    yield ">first call\nms", one.first_call_ms
    yield ">outputs differ\nby", f"{one.relative_error:.2g}"


def _energy(one: Energy) -> Cells:
    yield ">mJ per call", f"{one.mean_mj:.4g}"
    yield ">+-", None if one.spread_mj is None else f"{one.spread_mj:.2g}"
    yield ">windows", str(len(one.windows_mj))


def print_comparison(found: Comparison, out: Console) -> None:
    """Prints what changed between two reports."""
    for difference in found.differences:
        out.print(f"Not alike: {difference}")
    _print_each(out, "configuration", found.changes, _change)
    for name, one in found.changes.items():
        if one.unlike_its_median:
            out.print(
                f"\n{name}: its mean and its slowest calls changed otherwise than its median:"
                f" mean {_ms(one.old.mean_ms)} to {_ms(one.new.mean_ms)} ms, slowest"
                f" {_ms(one.old.max_ms)} to {_ms(one.new.max_ms)} ms."
            )
    if found.common_factor is not None:
        out.print(
            f"\nAll changed by about the same factor, {found.common_factor:.3f}: it may be the"
            " machine that changed (clock, heat, neighbours). Measure both again in turn."
        )
    for which, names in (("old", found.only_old), ("new", found.only_new)):
        for name in names:
            out.print(f"{name} is in the {which} file only.")
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
        calls = plural(profile.calls, "call")
        out.print(f"\n{graph}: {calls} in a run of its own, slower for being profiled")
        ordered = sorted(profile.layers, key=lambda layer: -layer.total_ms)
        shown, rest = ordered[:_MOST_LAYERS], ordered[_MOST_LAYERS:]
        groups = [(_shortened(one.name), f"{one.median_ms:.4f}", [one]) for one in shown]
        groups += [(f"the {len(rest)} others together", "-", rest)] if rest else []
        made = table(">Time(ms)", ">Avg.(ms)", ">Median(ms)", ">Time(%)", "Layer")
        for name, median_ms, layers in (*groups, ("all layers", "-", ordered)):
            total_ms = sum(layer.total_ms for layer in layers)
            share = sum(layer.percentage for layer in layers)
            average_ms = f"{total_ms / profile.calls:.4f}"
            made.add_row(f"{total_ms:.3f}", average_ms, median_ms, f"{share:.1f}", name)
        out.print(made)


def who_is_faster(over: RatioInterval) -> str:
    """Returns who is faster, of a plain session's latency over ours."""
    if over.slower:
        return "ours is faster"
    return "ours is slower" if over.faster else over.verdict


def _print_regime(report: Report, out: Console) -> None:
    regime, stop, meter = report.regime, report.regime.stop, report.regime.meter
    runs = max((latency.runs for latency in report.timed.values()), default=0)
    full = runs >= MOST_ROUNDS * regime.streams
    loop = (
        f"by turns; warm-up {stop.warm_up_ms:g} ms ({plural(regime.warm_up_rounds, 'round')}"
        f" dropped), at least {stop.duration_s:g} s and {plural(stop.iterations, 'call')} each"
        f"{f', at most {MOST_ROUNDS} (reached)' if full else ''}"
    )
    streams = f"{regime.streams} calls at a time, begun together"
    kind = "estimated, nothing is measured" if meter and meter.estimated else "measured"
    target = f"target {regime.target}, {plural(regime.threads, 'thread')}"
    lines = {
        "backend": f"{regime.backend}, {target}",
        "a call": regime.call_text,
        "phases": regime.phases_text if runs else "",
        "device": regime.device,
        "power": regime.power_mode or "mode not told by this system",
        "meanwhile": ", ".join(_changes(report)),
        "versions": _pairs(regime.versions),
        "inputs": f"{_pairs(regime.inputs)}; {plural(regime.cases, 'case')} in turn",
        "loop": loop if runs else "",
        "streams": streams if regime.streams > 1 else "",
        "meter": f"{meter.name}: {meter.covers} ({kind})" if meter else "none",
    }
    out.print(regime.bundle, style="bold")
    width = max(out.width - _INDENT, 20)
    for name, text in lines.items():
        # What is wider than the terminal goes on under its text.
        wrapped = textwrap.wrap(text, width, break_on_hyphens=False)
        for number, line in enumerate(wrapped):
            out.print(f"{'' if number else '  ' + name:{_INDENT}}{line}", soft_wrap=True)


def _changes(report: Report) -> Iterable[str]:
    """Yields how the device changed meanwhile, as far as it can be read."""
    before, after = report.regime.before, report.regime.after
    for what, unit, then, now in (
        ("hottest zone", "C", before.temperature_c, after.temperature_c),
        ("CPU", "MHz", before.cpu_mhz, after.cpu_mhz),
        ("GPU", "MHz", before.gpu_mhz, after.gpu_mhz),
    ):
        if then is not None and now is not None:
            yield f"{what} {then:.0f} to {now:.0f} {unit}"


def _print_each(
    out: Console, title: str, entries: Mapping[str, T], cells: Callable[[T], Cells]
) -> None:
    """Prints a row for each entry, numbers as milliseconds; nothing where there is none."""
    rows = {name: list(cells(one)) for name, one in entries.items()}
    if not rows:
        return
    made = table(title, *(column for column, _ in next(iter(rows.values()))))
    for name, row in rows.items():
        made.add_row(name, *(one if isinstance(one, str) else _ms(one) for _, one in row))
    out.print("\n", end="")
    out.print(made)


def _ms(value_ms: float | None) -> str:
    """Returns milliseconds with four digits, e.g. ``0.03214`` or ``12.35``."""
    if value_ms is None:
        return "-"
    return f"{value_ms:.0f}" if value_ms >= 1000 else f"{value_ms:.4g}"


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in values.items())


def _shortened(name: str) -> str:
    """Returns a name that fits the table; the file has all of it."""
    if len(name) <= _LONGEST_LAYER:
        return name
    half = (_LONGEST_LAYER - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
