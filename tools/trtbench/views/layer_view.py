"""What ``--dumpProfile`` prints: the layers that take most."""

from __future__ import annotations

from statistics import fmean, median
from typing import TYPE_CHECKING

from skipc.tools.console import plural, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from skipc.tools.trtbench.running.layers import Profile

_MOST_ROWS = 15
_LONGEST_NAME = 36


def print_profiles(profiles: Mapping[str, Profile], out: Console) -> None:
    """Prints each configuration's layers, as trtexec does, but the slowest first."""
    for configuration, profile in profiles.items():
        out.print(
            f"\n{configuration}: {plural(profile.calls, 'call')} in a run of its own, slower"
            " for being profiled"
        )
        _print_layers(profile, out)


def _print_layers(profile: Profile, out: Console) -> None:
    ordered = sorted(profile.layers, key=lambda layer: -layer.total_ms)
    rows = table(">Time(ms)", ">Avg.(ms)", ">Median(ms)", ">Time(%)", "Layer")
    for layer in ordered[:_MOST_ROWS]:
        rows.add_row(
            f"{layer.total_ms:.3f}",
            f"{fmean(layer.times_ms):.4f}",
            f"{median(layer.times_ms):.4f}",
            f"{profile.percentage(layer):.1f}",
            _shortened(layer.name),
        )
    rest = ordered[_MOST_ROWS:]
    if rest:
        total_ms = sum(layer.total_ms for layer in rest)
        rows.add_row(
            f"{total_ms:.3f}",
            f"{total_ms / profile.calls:.4f}",
            "-",
            f"{sum(map(profile.percentage, rest)):.1f}",
            f"the {len(rest)} others together",
        )
    total_ms = profile.total_ms
    rows.add_row(
        f"{total_ms:.3f}", f"{total_ms / profile.calls:.4f}", "-", "100.0", "all layers"
    )
    out.print(rows)


def _shortened(name: str) -> str:
    """Returns a name that fits the table; the file has all of it."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = (_LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
