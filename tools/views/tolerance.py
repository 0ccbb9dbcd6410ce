"""What `skipc tolerate` found: rates, a bound, and where each tensor may lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import print_prose, size_text, table
from skipc.tools.views.routes import percent_of

if TYPE_CHECKING:
    from rich.console import Console

    from skipc.compiler.tolerate.analysis import Asked, Fine, Tolerance


def print_tolerance(out: Console, found: Tolerance, asked: Asked) -> None:
    """Prints what a bundle stands, and what is certified of it."""
    _print_coarse(out, found, asked)
    out.print()
    _print_tensors(out, found.fine, asked)
    if asked.partitions:
        out.print()
        _print_saved(out, found.fine)
    _print_certified(out, found, asked)


def _print_coarse(out: Console, found: Tolerance, asked: Asked) -> None:
    columns = ["configuration", ">accuracy", ">rate", ">certified", ">accuracy then", ">worst"]
    if asked.correct:
        columns[2:2] = [">without correction"]
    rows = table(*columns)
    for each in found.coarse:
        cells = [
            each.configuration,
            percent_of(each.reported.intact),
            _rate(each.rate),
            _rate(each.certified) if each.certified else "-",
            percent_of(each.reported.mean),
            percent_of(each.reported.worst),
        ]
        if each.uncorrected is not None:
            bought = f" ({each.rate / each.uncorrected:.3g} x)" if each.uncorrected else ""
            cells[2:2] = [_rate(each.uncorrected)]
            cells[3] += bought
        rows.add_row(*cells)
    out.print(rows)


def _print_tensors(out: Console, fine: Fine, asked: Asked) -> None:
    last = ("partition",) if asked.partitions else ()
    rows = table("tensor", "type", ">size", ">rate", *last)
    for each in fine.tensors:
        place = (each.place,) if asked.partitions else ()
        rows.add_row(
            each.name, each.dtype, size_text(each.size_bytes), _rate(each.rate), *place
        )
    out.print(rows)


def _print_saved(out: Console, fine: Fine) -> None:
    rows = table("configuration", "all tensors in", ">energy", ">time", "each in its own",
                 ">energy", ">time")  # fmt: skip
    for name, saved in fine.saved.items():
        coarse = fine.coarse_saved[name]
        rows.add_row(
            *(name, fine.coarse or "normal", percent_of(coarse.energy)),
            *(percent_of(coarse.latency), "", percent_of(saved.energy)),
            percent_of(saved.latency),
        )
    out.print(rows)
    print_prose(
        out,
        "Energy and time are of a model, not measured: every tensor is read once for a sample,"
        " and what that takes is its bytes times the partition's figure, over normal memory."
        " The one partition for all was chosen, not certified: it may save more than what is.",
    )


def _print_certified(out: Console, found: Tolerance, asked: Asked) -> None:
    points = f"{100 * asked.max_drop:g} of 100 samples"
    whose = "in this memory" if asked.model.chip is not None else "each in a memory of its own"
    sure = f"sure to {100 * asked.confidence:g} %"
    fine = found.fine
    held = [each for each in found.coarse if each.certified]
    claim = f"of samples like these, {whose}, at most {points} are answered wrong by errors."
    told = [f"Certified, {sure}: {claim}"]
    if not held and not fine.certified:
        told = ["Nothing is certified: even the smallest rate that was tried loses too much."]
    told += [
        f"{each.configuration} at the rate {_rate(each.certified)}: {each.failures} of"
        f" {each.samples} were."
        for each in held
    ]
    if fine.certified:
        lost = ", ".join(f"{name} {count}" for name, count in fine.failures.items())
        told.append(f"With each tensor at its own rate: {lost}.")
    print_prose(out, "\n" + " ".join(told))


def _rate(rate: float) -> str:
    return f"{rate:.2g}"
