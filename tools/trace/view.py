"""What ``skipc trace`` prints, and what its pictures say to those who do not see them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from skipc.tools.console import plural, table
from skipc.tools.printable import shown
from skipc.tools.views.meters import energy_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from skipc.tools.trace.summary import ConfigurationSummary, Summary

HEADINGS = ("configuration", ">calls", ">share", ">median", ">p99", ">energy")


def cells(one: ConfigurationSummary) -> tuple[str, ...]:
    """Returns a configuration's cells below ``HEADINGS``."""
    return (
        shown(one.configuration),
        str(one.calls),
        _percent(one.share),
        _ms(one.median_ms),
        _ms(one.p99_ms),
        energy_text(one.energy_mj),
    )


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
    if summary.mean_power_w is None:
        said.append("Nothing is known of the power.")
    elif summary.power_is_metered:
        said.append(f"Mean power: {summary.mean_power_w:.4g} W, metered.")
    else:
        said.append(
            f"Mean power: {summary.mean_power_w:.4g} W, an estimate: what the calls were"
            " expected to take."
        )
    if summary.mean_accuracy is not None:
        said.append(f"Mean accuracy: {summary.mean_accuracy:.4f}.")
    return said


def print_trace(summary: Summary, pictures: Sequence[Path], out: Console) -> None:
    """Prints a table of the configurations, then the whole."""
    rows = table(*HEADINGS)
    for one in summary.configurations:
        rows.add_row(*cells(one))
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
