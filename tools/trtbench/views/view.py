"""What ``trtbench`` prints of a report, and of two of them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from skipc.tools.console import plural, table
from skipc.tools.trtbench.baselines.view import print_baselines
from skipc.tools.trtbench.results.doubts import doubts
from skipc.tools.trtbench.results.regime import call_text, phases_text
from skipc.tools.trtbench.running.loop import MOST_ROUNDS
from skipc.tools.trtbench.views.numbers import ms_text, range_text
from skipc.tools.trtbench.views.parts_view import print_loading, print_memory, print_phases

if TYPE_CHECKING:
    from rich.console import Console

    from skipc.tools.trtbench.results.compare import Comparison
    from skipc.tools.trtbench.results.report import Regime, Report
    from skipc.tools.trtbench.results.summary import Summary

_INDENT = 12


def print_report(report: Report, average_runs: int, out: Console) -> None:
    """Prints a report: regime, tables, warnings.

    Args:
        report: The report.
        average_runs: How many calls in a row were averaged.
        out: Where to.
    """
    timed = {e.name: e.latency for e in report.configurations if e.latency is not None}
    runs = max((latency.runs for latency in timed.values()), default=0)
    _print_regime(report.regime, runs, out)
    if timed:
        _print_latencies(timed, average_runs, out)
    print_phases(report, out)
    print_loading(report, out)
    print_memory(report, out)
    if len(timed) > 1:
        _print_ratios(report, out)
    if report.switching is not None:
        before, after, ratio = report.switching.worst()
        out.print(
            f"\nWorst switch: the first call of {after} after one of {before} takes"
            f" {ratio:.2f} of the median of its calls that follow."
        )
    print_baselines(report, out)
    _print_energy(report, out)
    for doubt in doubts(report):
        out.print(f"\nWarning: {doubt}")


def print_comparison(found: Comparison, out: Console) -> None:
    """Prints what changed between two reports."""
    for difference in found.differences:
        out.print(f"Not alike: {difference}")
    if found.differences:
        out.print()
    rows = table("configuration", ">old ms", ">new ms", ">new/old", ">95 %", "verdict")
    for change in found.changes:
        interval = change.interval
        rows.add_row(
            change.configuration,
            ms_text(change.old.median_ms),
            ms_text(change.new.median_ms),
            f"{interval.ratio:.3f}",
            range_text(interval.low, interval.high),
            change.verdict,
        )
    out.print(rows)
    for change in found.changes:
        if change.unlike_its_median:
            out.print(
                f"\n{change.configuration}: its mean and its slowest calls changed otherwise"
                f" than its median: mean {ms_text(change.old.mean_ms)} to"
                f" {ms_text(change.new.mean_ms)} ms, slowest {ms_text(change.old.max_ms)} to"
                f" {ms_text(change.new.max_ms)} ms."
            )
    if found.common_factor is not None:
        out.print(
            f"\nAll changed by about the same factor, {found.common_factor:.3f}: it may be the"
            " machine that changed (clock, heat, neighbours). Measure both again in turn."
        )
    for name in found.only_old:
        out.print(f"{name} is in the old file only.")
    for name in found.only_new:
        out.print(f"{name} is in the new file only.")
    out.print(
        "\nThe intervals hold what varies within a run. From one start of the program to the"
        " next more does; the margin (--margin) stands for that."
    )


def _print_regime(regime: Regime, runs: int, out: Console) -> None:
    stop = regime.stop
    inputs = ", ".join(f"{name} {text}" for name, text in regime.inputs.items())
    versions = ", ".join(f"{name} {text}" for name, text in regime.versions.items())
    meter = regime.meter
    out.print(regime.bundle, style="bold")
    _say(
        out,
        "backend",
        f"{regime.backend}, target {regime.target}, {plural(regime.threads, 'thread')}",
    )
    _say(out, "a call", call_text(regime.backend, regime.way))
    if regime.way is not None and runs:
        _say(out, "phases", phases_text(regime.way))
    _say(out, "device", regime.device)
    _say(out, "power", regime.power_mode or "mode not told by this system")
    _print_conditions(regime, out)
    _say(out, "versions", versions)
    _say(out, "inputs", f"{inputs}; {plural(regime.cases, 'case')} in turn")
    if runs:
        turns = runs // regime.streams
        bound = f", at most {MOST_ROUNDS} (reached)" if turns >= MOST_ROUNDS else ""
        _say(
            out,
            "loop",
            f"by turns; warm-up {stop.warm_up_ms:g} ms"
            f" ({plural(regime.warm_up_rounds, 'round')} dropped), at least"
            f" {stop.duration_s:g} s and {plural(stop.iterations, 'call')} each{bound}",
        )
    if regime.streams > 1:
        _say(out, "streams", f"{regime.streams} calls at a time, begun together")
    if meter is None:
        _say(out, "meter", "none")
    else:
        kind = "estimated, nothing is measured" if meter.estimated else "measured"
        _say(out, "meter", f"{meter.name}: {meter.covers} ({kind})")


def _say(out: Console, name: str, text: str) -> None:
    """Prints a line of the header; what is wider than the terminal goes on under its text."""
    lines = textwrap.wrap(text, max(out.width - _INDENT, 20), break_on_hyphens=False)
    for number, line in enumerate(lines):
        out.print(f"{'' if number else '  ' + name:{_INDENT}}{line}", soft_wrap=True)


def _print_conditions(regime: Regime, out: Console) -> None:
    """Prints how the device changed meanwhile, as far as it can be read."""
    shown = (
        ("hottest zone", "C", regime.before.temperature_c, regime.after.temperature_c),
        ("CPU", "MHz", regime.before.cpu_mhz, regime.after.cpu_mhz),
        ("GPU", "MHz", regime.before.gpu_mhz, regime.after.gpu_mhz),
    )
    changes = [
        f"{what} {before:.0f} to {after:.0f} {unit}"
        for what, unit, before, after in shown
        if before is not None and after is not None
    ]
    if changes:
        _say(out, "meanwhile", ", ".join(changes))


def _print_latencies(timed: dict[str, Summary], average_runs: int, out: Console) -> None:
    first = next(iter(timed.values()))
    percents = [f">{p.percent:g} %" for p in first.percentiles]
    rows = table("latency, ms", ">min", ">mean", ">median", *percents, ">max")
    for name, latency in timed.items():
        values = (latency.min_ms, latency.mean_ms, latency.median_ms)
        shown = (*values, *(p.ms for p in latency.percentiles), latency.max_ms)
        rows.add_row(name, *map(ms_text, shown))
    out.print()
    out.print(rows)
    rows = table(
        "\nconfiguration", ">\nruns", ">throughput\nper s", ">\nvariation",
        f">averages of {average_runs}\nlowest", ">ms\nhighest",
    )  # fmt: skip
    for name, latency in timed.items():
        rows.add_row(
            name,
            str(latency.runs),
            f"{latency.throughput_per_s:.4g}"
            if latency.throughput_per_s < 1000
            else f"{latency.throughput_per_s:.0f}",
            f"{latency.variation:.1%}",
            ms_text(latency.lowest_average_ms),
            ms_text(latency.highest_average_ms),
        )
    out.print()
    out.print(rows)


def _print_ratios(report: Report, out: Console) -> None:
    rows = table(f"over {report.reference}", ">latency", ">95 %", ">accuracy", "")
    for ratio in report.ratios():
        drop = ratio.accuracy_drop
        interval = ratio.interval
        rows.add_row(
            ratio.configuration,
            f"{interval.ratio:.3f}",
            range_text(interval.low, interval.high),
            "-" if drop is None else f"{0 - 100 * drop:+.2f} points",
            interval.verdict,
        )
    out.print()
    out.print(rows)
    out.print("Intervals hold what varies within this run; another start differs by more.")


def _print_energy(report: Report, out: Console) -> None:
    meter = report.regime.meter
    measured = [(e.name, e.energy) for e in report.configurations if e.energy is not None]
    if meter is None or not measured:
        return
    kind = "energy, estimated" if meter.estimated else "energy"
    rows = table(kind, ">mJ per call", ">+-", ">windows")
    for name, energy in measured:
        spread = energy.spread_mj
        rows.add_row(
            name,
            f"{energy.mean_mj:.4g}",
            "-" if spread is None else f"{spread:.2g}",
            str(len(energy.windows_mj)),
        )
    out.print()
    out.print(rows)
    out.print(f"What the meter {meter.name} covers: {meter.covers}.")
