"""What ``trtbench`` prints: a report, two of them compared, the layers."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from skipc.tools.console import plural, size_text, table
from skipc.tools.trtbench.compare import doubts
from skipc.tools.trtbench.loop import MOST_ROUNDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console

    from skipc.tools.trtbench.compare import Comparison
    from skipc.tools.trtbench.latency import Latency, RatioInterval
    from skipc.tools.trtbench.layers import Profile
    from skipc.tools.trtbench.probes import Times
    from skipc.tools.trtbench.report import Report

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
    entries, timed, switching = report.configurations, report.timed, report.switching
    _print_regime(report, out)
    if timed:
        _print_times("latency, ms", timed, out)
        _print_throughput(report, out)
    for title, phase in _PHASES.items():
        found = {entry.name: getattr(entry.phases, phase, None) for entry in entries}
        times = {name: one for name, one in found.items() if one is not None}
        if times:
            _print_times(title, times, out)
    _print_loading(report, out)
    _print_memory(report, out)
    if len(timed) > 1:
        _print_ratios(report, out)
    if switching is not None:
        before, after, ratio = switching.worst()
        out.print(
            f"\nWorst switch: the first call of {after} after one of {before} takes"
            f" {ratio:.2f} of the median of its calls that follow."
        )
    _print_plain(report, out)
    _print_energy(report, out)
    for doubt in doubts(report):
        out.print(f"\nWarning: {doubt}")


def print_comparison(found: Comparison, out: Console) -> None:
    """Prints what changed between two reports."""
    for difference in found.differences:
        out.print(f"Not alike: {difference}")
    columns = "configuration", ">old ms", ">new ms", ">new/old", ">95 %", "verdict"
    changes = {each.configuration: each for each in found.changes}
    rows = (
        (
            name,
            _ms(one.old.median_ms),
            _ms(one.new.median_ms),
            *_ratio(one.interval),
            one.verdict,
        )
        for name, one in changes.items()
    )
    _print_table(out, columns, rows)
    for name, one in changes.items():
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


def print_profiles(profiles: Mapping[str, Profile], out: Console) -> None:
    """Prints each graph's layers, as trtexec does, but the slowest first."""
    for graph, profile in profiles.items():
        calls = plural(profile.calls, "call")
        out.print(f"\n{graph}: {calls} in a run of its own, slower for being profiled")
        ordered = sorted(profile.layers, key=lambda layer: -layer.total_ms)
        shown, rest = ordered[:_MOST_LAYERS], ordered[_MOST_LAYERS:]
        groups = [(_shortened(one.name), f"{one.median_ms:.4f}", [one]) for one in shown]
        groups += [(f"the {len(rest)} others together", "-", rest)] if rest else []
        groups += [("all layers", "-", ordered)]
        rows = []
        for name, median_ms, layers in groups:
            total_ms = sum(layer.total_ms for layer in layers)
            share = sum(layer.percentage for layer in layers)
            average_ms = total_ms / profile.calls
            rows.append(
                (f"{total_ms:.3f}", f"{average_ms:.4f}", median_ms, f"{share:.1f}", name)
            )
        columns = ">Time(ms)", ">Avg.(ms)", ">Median(ms)", ">Time(%)", "Layer"
        _print_table(out, columns, rows, "")


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


def _print_times(
    title: str, times: Mapping[str, Latency] | Mapping[str, Times], out: Console
) -> None:
    shown = {
        name: {
            ">min": one.min_ms,
            ">mean": one.mean_ms,
            ">median": one.median_ms,
            **{f">{percent} %": ms for percent, ms in one.percentiles_ms.items()},
            ">max": one.max_ms,
        }
        for name, one in times.items()
    }
    rows = [(name, *map(_ms, one.values())) for name, one in shown.items()]
    _print_table(out, (title, *next(iter(shown.values()))), rows)


def _print_throughput(report: Report, out: Console) -> None:
    averages = f">averages of {report.regime.average_runs}\nlowest"
    columns = "\nconfiguration", ">\nruns", ">throughput\nper s", ">\nvariation", averages
    rows = []
    for name, one in report.timed.items():
        per_s, ends_ms = one.throughput_per_s, (one.lowest_average_ms, one.highest_average_ms)
        throughput = f"{per_s:.4g}" if per_s < 1000 else f"{per_s:.0f}"
        variation = f"{one.coefficient_of_variation:.1%}"
        rows.append((name, str(one.runs), throughput, variation, *map(_ms, ends_ms)))
    _print_table(out, (*columns, ">ms\nhighest"), rows)


def _print_loading(report: Report, out: Console) -> None:
    """Prints what loading took, and of which parts if that was asked."""
    parts = {e.name: e.load_parts for e in report.configurations if e.load_parts is not None}
    taken = report.regime.way is not None
    columns = ["\nconfiguration", ">load\nms", ">first call\nms"]
    columns += [">deserialise\nms", ">refit\nms"] if parts else []
    columns += [">device memory\ntaken"] if taken else []
    rows = []
    for entry in report.configurations:
        part = parts.get(entry.name)
        row = [entry.name, _ms(entry.load_ms), _ms(entry.first_call_ms)]
        row += [] if part is None else [_ms(part.deserialize_ms), _ms(part.refit_ms)]
        row += [size_text(entry.memory.device.taken_bytes)] if taken else []
        rows.append(row)
    _print_table(out, columns, rows)


def _print_memory(report: Report, out: Console) -> None:
    """Prints what each configuration takes by itself and shares with others, by place."""
    places = (f">on {place}\nown" for place in ("disk", "host", "device"))
    columns = ("memory", *(column for place in places for column in (place, ">\nshared")))
    rows = []
    for entry in report.configurations:
        memory, row = entry.memory, [entry.name]
        for share in (memory.disk, memory.host, memory.device):
            sizes = (None, None) if share is None else (share.own_bytes, share.shared_bytes)
            row += ["-" if size is None else size_text(size) for size in sizes]
        rows.append(row)
    _print_table(out, columns, rows)


def _print_ratios(report: Report, out: Console) -> None:
    accuracies = {entry.name: entry.accuracy for entry in report.configurations}
    best, rows = accuracies[report.reference], []
    for entry in report.configurations:
        points = "-"
        if best is not None and entry.accuracy is not None:
            points = f"{100 * (entry.accuracy - best):+.2f} points"
        if (over := entry.over_reference) is not None:
            rows.append((entry.name, *_ratio(over), points, over.verdict))
    columns = f"over {report.reference}", ">latency", ">95 %", ">accuracy", ""
    _print_table(out, columns, rows)
    out.print("Intervals hold what varies within this run; another start differs by more.")


def _print_plain(report: Report, out: Console) -> None:
    """Prints the plain sessions' latencies over ours, and what loading them took."""
    if report.plain_not_run:
        out.print(f"\nThe baseline plain was not run: {report.plain_not_run}")
    timed, loaded = [], []
    for name, one in report.plain.items():
        if one.latency is not None and (over := one.over_ours) is not None:
            timed.append(
                (name, _ms(one.latency.median_ms), *_ratio(over), who_is_faster(over))
            )
        times = _ms(one.load_ms), _ms(one.first_call_ms)
        loaded.append((name, *times, f"{one.relative_error:.2g}"))
    title = "\nplain sessions"
    _print_table(out, (title, ">median\nms", ">over\nours", ">\n95 %", ""), timed)
    columns = title, ">load\nms", ">first call\nms", ">outputs differ\nby"
    _print_table(out, columns, loaded)


def _print_energy(report: Report, out: Console) -> None:
    meter, rows = report.regime.meter, []
    for entry in report.configurations:
        if (one := entry.energy) is not None:
            spread = "-" if one.spread_mj is None else f"{one.spread_mj:.2g}"
            rows.append((entry.name, f"{one.mean_mj:.4g}", spread, str(len(one.windows_mj))))
    if meter is not None:
        kind = "energy, estimated" if meter.estimated else "energy"
        _print_table(out, (kind, ">mJ per call", ">+-", ">windows"), rows)
        out.print(f"What the meter {meter.name} covers: {meter.covers}.")


def _print_table(
    out: Console, columns: Iterable[str], rows: Iterable[Iterable[str]], before: str = "\n"
) -> None:
    """Prints a table after an empty line; nothing where it has no rows."""
    shown = table(*columns)
    for row in rows:
        shown.add_row(*row)
    if shown.row_count:
        out.print(before, end="")
        out.print(shown)


def _ms(value_ms: float | None) -> str:
    """Returns milliseconds with four digits, e.g. ``0.03214`` or ``12.35``."""
    if value_ms is None:
        return "-"
    return f"{value_ms:.0f}" if value_ms >= 1000 else f"{value_ms:.4g}"


def _ratio(one: RatioInterval) -> tuple[str, str]:
    """Returns a ratio and its interval, or ``-`` where there is none."""
    known = one.low is not None and one.high is not None
    return f"{one.ratio:.3f}", f"{one.low:.3f} .. {one.high:.3f}" if known else "-"


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in values.items())


def _shortened(name: str) -> str:
    """Returns a name that fits the table; the file has all of it."""
    if len(name) <= _LONGEST_LAYER:
        return name
    half = (_LONGEST_LAYER - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
