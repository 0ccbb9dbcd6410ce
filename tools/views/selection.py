"""What ``skipc select`` prints: the table, and JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.select.writing import recorded
from skipc.tools.console import count_text, print_prose, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.exits import Early
    from skipc.compiler.select.problem import Problem
    from skipc.compiler.select.selecting import Chosen, Selection


def print_selection(selection: Selection, files: Sequence[Path], printed: Console) -> None:
    """Prints the table of the chosen, how they were found, and where they were written."""
    problem = selection.problem
    accuracy = problem.metric.is_accuracy
    others = dict.fromkeys(g.axis for g in problem.space.genes if g.axis != SkipAxis.key)
    full = next((c for c in selection.chosen if not any(c.genes)), None)
    answers = ["answered at each exit"] if selection.early else []
    rows = table(
        "configuration", ">skipped", *others, *(f">{title}" for title in answers),
        f">{'accuracy' if accuracy else 'score'}",
        ">drop", ">MACs", ">predicted", ">measured", ">off",
    )  # fmt: skip
    for chosen in selection.chosen:
        texts = problem.family.texts(chosen.genes)
        rows.add_row(
            chosen.name,
            str(sum(problem.space.skipped(chosen.genes))),
            *(texts.get(key, "-") for key in others),
            *("-" for _ in answers),
            f"{100 * chosen.score:.2f} %" if accuracy else f"{chosen.score:.4g}",
            "-" if full is None else _lost(full.score - chosen.score, accuracy),
            count_text(chosen.macs),
            _ms(chosen.predicted_ms),
            _ms(chosen.measured_ms),
            _off(chosen),
        )
    for early in selection.early:
        texts = problem.family.texts(early.genes)
        rows.add_row(
            early.name,
            str(sum(problem.space.skipped(early.genes))),
            *(texts.get(key, "-") for key in others),
            " / ".join(f"{100 * stop:.0f}" for stop in early.stops) + " %"
            if early.stops
            else f"{early.exits[0]}",
            f"{100 * early.score:.2f} %",
            "-" if full is None else _lost(full.score - early.score, accuracy),
            count_text(round(early.macs)),
            "-",
            _ms(early.measured_ms),
            "-",
        )
    printed.print(rows)
    if selection.early:
        print_prose(printed, "\nA route's MACs and latency are a sample's on average.")
    for early in selection.early:
        if early.tests:
            print_prose(printed, f"{early.name}: {early.why}.")
    share = selection.exhaustive_share
    near = "" if share is None else f", {100 * share:.2f} % of the exhaustive front's"
    print_prose(
        printed,
        f"\n{problem.metric.name} on the report part of {problem.data.description}; norms"
        f" {problem.mode.value}.\n{len(selection.candidates)} configurations evaluated,"
        f" hypervolume {selection.hypervolume:.4f}{near}.",
    )
    printed.print(f"Written: {', '.join(map(str, files))}", soft_wrap=True)


def _lost(drop: float, accuracy: bool) -> str:
    """Returns a drop, of an accuracy in percentage points."""
    return f"{100 * drop:.2f}" if accuracy else f"{drop:.4g}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} ms"


def _off(chosen: Chosen) -> str:
    """Returns how far the prediction is from the measurement."""
    if chosen.predicted_ms is None or not chosen.measured_ms:
        return "-"
    return f"{100 * (chosen.predicted_ms / chosen.measured_ms - 1):+.0f} %"


def selection_json(selection: Selection, out: Path) -> dict[str, object]:
    """Returns the same as a JSON document."""
    problem = selection.problem
    return {
        "front": str(out),
        "norm": problem.mode.value,
        "metric": problem.metric.name,
        "cost": selection.cost.value,
        "evaluations": len(selection.candidates),
        "hypervolume": selection.hypervolume,
        "share_of_exhaustive_hypervolume": selection.exhaustive_share,
        "interrupted": selection.interrupted,
        "configurations": [
            {
                **_fields(chosen, problem.space.skipped(chosen.genes)),
                **recorded(problem.family, chosen.genes),
            }
            for chosen in selection.chosen
        ],
        "early": [_early(early, problem) for early in selection.early],
    }


def _early(early: Early, problem: Problem) -> dict[str, object]:
    fields = asdict(early)
    return {
        "name": early.name,
        "bits": "".join(map(str, problem.space.skipped(fields.pop("genes")))),
        **fields,
    }


def _fields(chosen: Chosen, skipped: Genes) -> dict[str, object]:
    fields = asdict(chosen)
    del fields["genes"]
    return {
        "name": fields.pop("name"),
        "bits": "".join(map(str, skipped)),
        **fields,
    }
