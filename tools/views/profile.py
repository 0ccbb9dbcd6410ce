"""What ``skipc targets`` prints of profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import facts, plural, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from skipc.profiles import Board, Number, Profile, Software
    from skipc.profiles.detect import Detected
    from skipc.runtime.modes import Before, Offer
    from skipc.tools.console import Rows

_UNITS = {"memory_gb": ("memory", "GB"), "bandwidth_gb_s": ("bandwidth", "GB/s")}


def print_profiles(found: Sequence[tuple[Profile, str | None]], out: Console) -> None:
    """Prints one line per profile, then why some cannot be built on this host."""
    rows = table("target", "backend", "here", "description")
    names: dict[str, list[str]] = {}
    for profile, reason in found:
        here = "no" if reason else "yes"
        rows.add_row(profile.name, profile.backend, here, profile.description)
        if reason is not None:
            names.setdefault(reason, []).append(profile.name)
    out.print(rows)
    for reason, listed in names.items():
        out.print(f"\n{', '.join(listed)} cannot be built here: {reason}")


def print_profile(profile: Profile, reason: str | None, out: Console) -> None:
    """Prints one profile whole: its boards, their numbers with sources, and the software."""
    out.print(profile.name, style="bold")
    lines = [
        ("", profile.description),
        ("backend", profile.backend),
        ("built here", "yes" if reason is None else f"no: {reason}"),
        ("CPU", profile.architecture),
        ("compute capability", ", ".join(profile.compute_capabilities)),
        ("precisions", ", ".join(profile.precisions)),
        ("detected by", _detection(profile)),
    ]
    if profile.latency is not None:
        units = plural(len(profile.latency.unit_ms), "unit")
        lines.append(("latency", f"{profile.latency.base_ms:g} ms, and what {units} add"))
    out.print(facts(*lines))
    for board in profile.boards:
        _print_board(board, out)
    if profile.software:
        out.print("\nsoftware", style="bold")
        out.print(_releases(profile.software))


def print_detected(found: Detected, out: Console) -> None:
    """Prints which target suits this machine, and why."""
    lines = [("target", found.profile), ("board", found.board), ("because", found.reason)]
    out.print(facts(*lines))


def print_modes(found: Sequence[Offer], out: Console) -> None:
    """Prints what caps power and clocks here, what it may be set to, and what that needs."""
    if not found:
        out.print("This system shows nothing that caps power or clocks (docs/modes.md).")
        return
    rows = table("kind", "name", "now", "choices", "needs", "as a mode")
    for each in found:
        cells = each.kind, each.name, each.now or "-", each.choices or "-"
        rows.add_row(*cells, each.needs or "nothing", each.mode or "-")
    out.print(rows)


def print_restored(left: Before | None, out: Console) -> None:
    """Prints what was put back of what a process left."""
    if left is None:
        out.print("No power mode was left changed.")
        return
    settings = left.settings.items()
    told = [f"{kind} {name} {value}" for kind, one in settings for name, value in one.items()]
    out.print(
        f"Put back what was in force before the process {left.pid}: {', '.join(told)}.",
        soft_wrap=True,
    )


def _detection(profile: Profile) -> str:
    detect = profile.detect
    parts = {
        "the device tree's ": detect.compatible,
        "the file ": detect.files,
        "": ("there being no other",) if detect.fallback else (),
    }
    told = [f"{what}{' or '.join(texts)}" for what, texts in parts.items() if texts]
    return ", ".join(told) or "nothing: it is chosen by its name"


def _print_board(board: Board, out: Console) -> None:
    out.print(f"\n{board.name}", style="bold")
    total = ", ".join(board.total_rails)
    if board.total_rails and board.total_rails == board.rails:
        total = "the sum of all rails"
    lines = [
        ("module", ", ".join(board.module_ids)),
        ("power modes", ", ".join(board.power_modes)),
        ("rails", ", ".join(board.rails)),
        ("total power", total),
    ]
    out.print(facts(*lines))
    numbers = board.numbers()
    if numbers:
        out.print()
        rows = table("  number", ">value", "unit", "source")
        for key, number in numbers.items():
            label, unit = _label(key)
            rows.add_row(f"  {label}", f"{number.value:g}", unit, _source(number))
        out.print(rows)


def _label(key: str) -> tuple[str, str]:
    """Returns how a number's key is called, and its unit."""
    if key in _UNITS:
        return _UNITS[key]
    name, _, precision = key.partition(".")
    if precision:
        return f"peak {precision}", "TOP/s" if precision == "int8" else "TFLOP/s"
    return name, ""


def _source(number: Number) -> str:
    if not number.derived:
        return number.source
    return f"derived: {number.source}" if number.source else "derived"


def _releases(software: Iterable[Software]) -> Rows:
    rows = table("  release", "L4T", "TensorRT", "CUDA", "Python")
    for one in software:
        versions = (one.l4t, one.tensorrt, one.cuda, one.python)
        rows.add_row(f"  {one.name}", *(version or "-" for version in versions))
    return rows
