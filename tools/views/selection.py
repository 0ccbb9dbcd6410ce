"""What ``skipc select`` prints: the table, and JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from skipc.tools.console import count_text, print_prose, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.composing import Early
    from skipc.compiler.select.selecting import Chosen, Searched, Selection


def print_selection(selection: Selection, files: Sequence[Path], printed: Console) -> None:
    """Prints the table of the chosen, how they were found, and where they were written."""
    from skipc.compiler.axes.skip import SkipAxis

    networks, problem = selection.networks, selection.largest.problem
    accuracy = problem.metric.is_accuracy
    genes = [gene for one in networks.values() for gene in one.problem.space.genes]
    others = dict.fromkeys(gene.axis for gene in genes if gene.axis != SkipAxis.key)
    full = next((c for c in selection.largest.chosen if not any(c.genes)), None)
    several = ["networks"] if len(networks) > 1 else []
    answers = ["answered at each exit"] if selection.early else []
    rows = table(
        "configuration", *several, ">skipped", *others, *(f">{title}" for title in answers),
        f">{'accuracy' if accuracy else 'score'}",
        ">drop", ">MACs", ">predicted", ">measured", ">off",
    )  # fmt: skip

    def taken(*parts: tuple[str, Genes]) -> list[str]:
        """Returns the cells that say what networks are chosen, and what of them."""
        problems = [networks[name].problem for name, _ in parts]
        skipped = [
            str(sum(problem.space.skipped(genes)))
            for problem, (_, genes) in zip(problems, parts, strict=True)
        ]
        texts = [
            problem.family.texts(genes)
            for problem, (_, genes) in zip(problems, parts, strict=True)
        ]
        names = " > ".join(name for name, _ in parts)
        return [
            *(names for _ in several),
            " > ".join(skipped),
            *(" > ".join(text.get(key, "-") for text in texts) for key in others),
        ]

    for name, searched in networks.items():
        for chosen in searched.chosen:
            rows.add_row(
                chosen.name,
                *taken((name, chosen.genes)),
                *("-" for _ in answers),
                f"{100 * chosen.score:.2f} %" if accuracy else f"{chosen.score:.4g}",
                "-" if full is None else _lost(full.score - chosen.score, accuracy),
                count_text(chosen.macs),
                _ms(chosen.predicted_ms),
                _ms(chosen.measured_ms),
                _off(chosen),
            )
    for early in selection.early:
        rows.add_row(
            early.name,
            *taken(*((part.network, part.genes) for part in early.parts)),
            " / ".join(f"{100 * stop:.0f}" for stop in early.stops) + " %"
            if early.stops
            else f"{early.parts[0].exits[0]}",
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
    modes = dict.fromkeys(one.problem.mode.value for one in networks.values())
    print_prose(
        printed,
        f"\n{problem.metric.name} on the report part of {problem.data.description}; norms"
        f" {', '.join(modes)}.\n"
        + "\n".join(_searched_text(name, one) for name, one in networks.items()),
    )
    printed.print(f"Written: {', '.join(map(str, files))}", soft_wrap=True)


def _searched_text(name: str, searched: Searched) -> str:
    """Returns what was searched of a network, a sentence."""
    share = searched.exhaustive_share
    near = "" if share is None else f", {100 * share:.2f} % of the exhaustive front's"
    whose = f"{name}: " if name else ""
    return (
        f"{whose}{len(searched.candidates)} configurations evaluated,"
        f" hypervolume {searched.hypervolume:.4f}{near}."
    )


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
    """Returns the same as a JSON document; of several networks with what was found of each."""
    largest = selection.largest
    found = {name: _searched(one) for name, one in selection.networks.items()}
    return {
        "front": str(out),
        "metric": largest.problem.metric.name,
        "cost": largest.prices.kind.value,
        "interrupted": selection.interrupted,
        **(found.get("") or {"networks": found}),
        "early": [_early(early, selection) for early in selection.early],
    }


def _searched(searched: Searched) -> dict[str, object]:
    from skipc.compiler.select.writing import recorded

    problem = searched.problem
    return {
        "norm": problem.mode.value,
        "evaluations": len(searched.candidates),
        "hypervolume": searched.hypervolume,
        "share_of_exhaustive_hypervolume": searched.exhaustive_share,
        "configurations": [
            {
                **_fields(chosen, problem.space.skipped(chosen.genes)),
                **recorded(problem.family, chosen.genes),
            }
            for chosen in searched.chosen
        ],
    }


def _early(early: Early, selection: Selection) -> dict[str, object]:
    parts = [
        {
            "network": part.network,
            "bits": _bits(selection.networks[part.network].problem.space.skipped(part.genes)),
            "exits": part.exits,
        }
        for part in early.parts
    ]
    return asdict(early) | {"parts": parts}


def _fields(chosen: Chosen, skipped: Genes) -> dict[str, object]:
    fields = asdict(chosen)
    del fields["genes"]
    return {"name": fields.pop("name"), "bits": _bits(skipped), **fields}


def _bits(skipped: Genes) -> str:
    return "".join(map(str, skipped))
