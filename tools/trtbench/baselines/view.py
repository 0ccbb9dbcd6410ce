"""What ``trtbench`` prints of the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import table
from skipc.tools.trtbench.baselines.found import verdict
from skipc.tools.trtbench.views.numbers import ms_text, range_text

if TYPE_CHECKING:
    from rich.console import Console

    from skipc.tools.trtbench.results.report import Report


def print_baselines(report: Report, out: Console) -> None:
    """Prints the baselines' latencies over ours, what loading took, and what was not run."""
    run = [each for each in report.baselines if not each.not_run]
    if any(calls.latency is not None for each in run for calls in each.configurations):
        _print_latencies(report, out)
    if run:
        _print_loading(report, out)
    for each in report.baselines:
        if each.not_run:
            out.print(f"\nThe baseline {each.name} was not run: {each.not_run}")


def _print_latencies(report: Report, out: Console) -> None:
    rows = table("\nbaseline", "\nconfiguration", ">median\nms", ">over\nours", ">\n95 %", "")
    for each in report.baselines:
        for calls in each.configurations:
            over = calls.over(report.measured(calls.configuration).latency)
            if calls.latency is None or over is None:
                continue
            rows.add_row(
                each.name,
                calls.configuration,
                ms_text(calls.latency.median_ms),
                f"{over.ratio:.3f}",
                range_text(over.low, over.high),
                verdict(over),
            )
    out.print()
    out.print(rows)


def _print_loading(report: Report, out: Console) -> None:
    rows = table(
        "\nbaseline", "\nconfiguration", ">load\nms", ">first call\nms", ">outputs differ\nby"
    )
    for each in report.baselines:
        for calls in each.configurations:
            rows.add_row(
                each.name,
                calls.configuration,
                "-" if calls.load_ms is None else ms_text(calls.load_ms),
                ms_text(calls.first_call_ms),
                f"{calls.relative_error:.2g}",
            )
    out.print()
    out.print(rows)
