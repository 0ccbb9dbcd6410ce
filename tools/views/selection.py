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
    from skipc.compiler.select.selecting import Chosen, Selection


def print_selection(selection: Selection, files: Sequence[Path], printed: Console) -> None:
    """Prints the table of the chosen, how they were found, and where they were written."""
    problem = selection.problem
    accuracy = problem.metric.is_accuracy
    others = dict.fromkeys(g.axis for g in problem.space.genes if g.axis != SkipAxis.key)
    full = next((c for c in selection.chosen if not any(c.genes)), None)
    rows = table(
        "configuration", ">skipped", *others, f">{'accuracy' if accuracy else 'score'}",
        ">drop", ">MACs", ">predicted", ">measured", ">off",
    )  # fmt: skip
    for chosen in selection.chosen:
        texts = problem.family.texts(chosen.genes)
        rows.add_row(
            chosen.name,
            str(sum(problem.space.skipped(chosen.genes))),
            *(texts.get(key, "-") for key in others),
            f"{100 * chosen.score:.2f} %" if accuracy else f"{chosen.score:.4g}",
            "-" if full is None else _lost(full.score - chosen.score, accuracy),
            count_text(chosen.macs),
            _ms(chosen.predicted_ms),
            _ms(chosen.measured_ms),
            _off(chosen),
        )
    printed.print(rows)
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
    }


def _fields(chosen: Chosen, skipped: Genes) -> dict[str, object]:
    fields = asdict(chosen)
    del fields["genes"]
    return {
        "name": fields.pop("name"),
        "bits": "".join(map(str, skipped)),
        **fields,
    }
