"""What ``trtbench`` prints of phases, loading and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import size_text, table
from skipc.tools.trtbench.views.numbers import ms_text

if TYPE_CHECKING:
    from rich.console import Console

    from skipc.tools.trtbench.results.report import Report
    from skipc.tools.trtbench.running.phases import Times


def print_phases(report: Report, out: Console) -> None:
    """Prints a table for each phase of the calls that were taken apart."""
    found = [(e.name, e.phases) for e in report.configurations if e.phases is not None]
    _print_times("by events, ms", [(name, p.latency) for name, p in found], out)
    _print_times("enqueue, ms", [(name, p.enqueue) for name, p in found], out)
    _print_times("H2D, ms", [(name, p.h2d) for name, p in found], out)
    _print_times("compute, ms", [(name, p.compute) for name, p in found], out)
    _print_times("D2H, ms", [(name, p.d2h) for name, p in found], out)


def print_loading(report: Report, out: Console) -> None:
    """Prints what loading took, and of which parts if that was asked."""
    parts = any(entry.load_parts is not None for entry in report.configurations)
    taken = report.regime.way is not None
    rows = table(
        *("\nconfiguration", ">load\nms"),
        *((">deserialise\nms", ">refit\nms") if parts else ()),
        ">first call\nms",
        *((">device memory\ntaken",) if taken else ()),
    )
    for entry in report.configurations:
        read_ms = None if entry.load_parts is None else entry.load_parts.deserialize_ms
        refit_ms = None if entry.load_parts is None else entry.load_parts.refit_ms
        rows.add_row(
            *(entry.name, ms_text(entry.load_ms)),
            *((_optional_ms(read_ms), _optional_ms(refit_ms)) if parts else ()),
            ms_text(entry.first_call_ms),
            *((size_text(entry.memory.device.taken_bytes),) if taken else ()),
        )
    out.print()
    out.print(rows)


def print_memory(report: Report, out: Console) -> None:
    """Prints what each configuration takes by itself and shares with others, by place."""
    rows = table(
        "memory",
        *(">on disk\nown", ">\nshared", ">on host\nown", ">\nshared"),
        *(">on device\nown", ">\nshared"),
    )
    for entry in report.configurations:
        disk, host, device = entry.memory.disk, entry.memory.host, entry.memory.device
        rows.add_row(
            entry.name,
            size_text(disk.own_bytes),
            size_text(disk.shared_bytes),
            "-" if host is None else size_text(host.own_bytes),
            "-" if host is None else size_text(host.shared_bytes),
            size_text(device.own_bytes),
            size_text(device.shared_bytes),
        )
    out.print()
    out.print(rows)


def _print_times(
    title: str, found: list[tuple[str, Times]] | list[tuple[str, Times | None]], out: Console
) -> None:
    shown = [(name, times) for name, times in found if times is not None]
    if not shown:
        return
    percents = [f">{p.percent:g} %" for p in shown[0][1].percentiles]
    rows = table(title, ">min", ">mean", ">median", *percents, ">max")
    for name, times in shown:
        values = (times.min_ms, times.mean_ms, times.median_ms)
        all_ms = (*values, *(p.ms for p in times.percentiles), times.max_ms)
        rows.add_row(name, *map(ms_text, all_ms))
    out.print()
    out.print(rows)


def _optional_ms(value_ms: float | None) -> str:
    return "-" if value_ms is None else ms_text(value_ms)
