"""The Pareto picture: a PNG by matplotlib, and a page by Plotly that needs no network."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skipc.compiler import axes
from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.bundle.files import write_whole
from skipc.compiler.extras import require
from skipc.compiler.select.options import CostKind
from skipc.compiler.select.pareto import front_of
from skipc.compiler.select.space import Candidate
from skipc.tools.web.chart import LEGEND, Chart, axis, hover, hovering
from skipc.tools.web.html import Table, element
from skipc.tools.web.labels import along_steps, draw_names, named
from skipc.tools.web.page import Page, Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.composing import Early
    from skipc.compiler.select.selecting import Chosen, Selection
    from skipc.tools.web.chart import Trace

_AXES = {
    CostKind.MACS: ("MACs, millions", 1e-6),
    CostKind.PARAMETERS: ("parameters, thousands", 1e-3),
    CostKind.LATENCY: ("predicted latency, ms", 1.0),
}
_LEAD = (
    "Each point is a configuration that was evaluated; the steps are the best score that a"
    " cost buys on the selection part of the data."
)
_CLOUD, _FRONT, _CHOSEN = "#b8c4d0", "#3b6ea5", "#d1495b"


class _Points(NamedTuple):
    """What both pictures show, in their units: costs with scores, and what is said of each."""

    title: str
    cost_label: str
    score_label: str
    cloud: list[tuple[float, float]]
    cloud_texts: list[tuple[str, ...]]
    front: list[tuple[float, float]]
    chosen: list[tuple[float, float]]
    chosen_texts: list[tuple[str, ...]]

    @property
    def names(self) -> list[str]:
        """The names of the chosen."""
        return [name for name, *_ in self.chosen_texts]

    @property
    def range(self) -> tuple[float, float]:
        """Where the vertical axis begins, not far below what was chosen, and where it ends.

        A network with most units skipped scores so little that nothing else could be told
        apart; the page, which can be zoomed, shows everything.
        """
        evaluated, chosen = ([y for _, y in points] for points in (self.cloud, self.chosen))
        margin = 3 * (max(evaluated) - min(chosen)) or 1.0
        low = max(min(evaluated), min(chosen) - margin) - 0.05 * margin
        return low, max(evaluated) + 0.12 * (max(evaluated) - low)


def write_png(path: Path, selection: Selection) -> None:
    """Writes the picture as PNG, 1200 x 750 pixels.

    Raises:
        ExtraMissingError: matplotlib is not installed.
    """
    figure = require("matplotlib.figure", "select").Figure(figsize=(8, 5), dpi=150)
    points = _points(selection)
    axes = figure.subplots()
    cloud, front, chosen = map(np.transpose, (points.cloud, points.front, points.chosen))
    axes.scatter(*cloud, s=14, color=_CLOUD, label="evaluated")
    axes.step(*front, where="post", color=_FRONT, linewidth=1.2, label="front")
    axes.scatter(*chosen, s=36, color=_CHOSEN, zorder=3, label="chosen")
    axes.set_xlabel(points.cost_label)
    axes.set_ylabel(points.score_label)
    axes.set_title(points.title, fontsize=10, loc="left")
    axes.margins(x=0.08, y=0.08)
    axes.set_ylim(*points.range)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    figure.tight_layout()
    others = [*along_steps(points.front), *points.cloud]
    draw_names(axes, points.names, points.chosen, others)
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    write_whole(path, data.getvalue())


def write_html(path: Path, selection: Selection) -> None:
    """Writes the picture as one page that holds everything it needs.

    Raises:
        ExtraMissingError: Plotly is not installed.
    """
    points = _points(selection)
    line: Trace = {
        "type": "scatter", "mode": "lines", "name": "front", "hoverinfo": "skip",
        "x": [x for x, _ in points.front], "y": [y for _, y in points.front],
        "line": {"shape": "hv", "color": LIGHT.muted, "width": 1.5},
    }  # fmt: skip
    rows = (
        (texts[0], f"{cost:.4g}", f"{score:.2f}", texts[-1])
        for (cost, score), texts in zip(points.chosen, points.chosen_texts, strict=True)
    )
    chart = Chart(
        "front",
        "What each configuration scores and costs",
        "Up and to the left is better. Point at one, or tap it, to see what it skips. Drag to"
        " zoom, double-click to go back; once more shows what lies far below the chosen, too.",
        [
            _dots("evaluated", points.cloud, points.cloud_texts, LIGHT.some, 6),
            line,
            _dots("chosen", points.chosen, points.chosen_texts, LIGHT.own, 11),
        ],
        {
            "xaxis": axis(points.cost_label),
            "yaxis": axis(points.score_label, range=list(points.range)),
            "showlegend": True,
            "legend": LEGEND,
            **named(points.names, points.chosen, list(along_steps(points.front))),
        },
        520,
        Table(
            "The chosen configurations",
            ("configuration", f">{points.cost_label}", f">{points.score_label}", "units"),
            tuple(rows),
        ),
        zooms=True,
    )
    section = Section("chosen", "The front", _LEAD, chart.html())
    page = Page(points.title, element("h1", points.title), [section], ranks=1)
    write_whole(path, page.encoded("select"))


def _dots(
    name: str,
    places: Sequence[tuple[float, float]],
    texts: Sequence[Sequence[str]],
    colour: str,
    size: int,
) -> Trace:
    return {
        "type": "scatter", "mode": "markers", "name": name,
        **hovering(hover(*lines) for lines in texts),
        "x": [x for x, _ in places], "y": [y for _, y in places],
        "marker": {"size": size, "color": colour},
    }  # fmt: skip


def _points(selection: Selection) -> _Points:
    networks, problem = selection.networks, selection.largest.problem
    label, scale = _AXES[selection.largest.prices.kind]
    percent = 100.0 if problem.metric.is_accuracy else 1.0
    candidates = [(name, c) for name, one in networks.items() for c in one.candidates]
    by_genes = {(name, candidate.genes): candidate for name, candidate in candidates}

    def skips(name: str, genes: Genes) -> str:
        choices = networks[name].problem.family.decoded(genes)
        taken = {a.key: a.taken(choices[a.key]) for a in axes.AXES if a.key in choices}
        skipped = f"skips {', '.join(taken.pop(SkipAxis.key, ())) or 'nothing'}"
        others = [f"{key}: {', '.join(names)}" for key, names in taken.items()]
        return (f"{name} " if name else "") + "; ".join([skipped, *others])

    def place(candidate: Candidate) -> tuple[float, float]:
        return scale * candidate.cost, percent * candidate.score

    def where(cost: float, score: float) -> str:
        return f"{percent * score:.2f} at {scale * cost:.4g}"

    def details(name: str, one: Chosen) -> tuple[str, ...]:
        reported = f"report part {percent * one.score:.2f}"
        found = by_genes[name, one.genes]
        at = f"selection {where(found.cost, found.score)}"
        return one.name, reported, at, skips(name, one.genes)

    def early_details(one: Early) -> tuple[str, ...]:
        reported = f"report part {percent * one.score:.2f}"
        at = f"selection {where(one.cost, one.selection_score)}"
        ways = (
            f"{skips(part.network, part.genes)}; answers at {', '.join(part.exits)}"
            for part in one.parts
        )
        return one.name, reported, at, ", then ".join(ways)

    chosen = [(name, one) for name, found in networks.items() for one in found.chosen]
    answering_early = [Candidate((), e.selection_score, e.cost) for e in selection.early]
    whose = ", ".join(networks) if len(networks) > 1 else problem.family.network.description
    return _Points(
        title=f"{len(candidates)} configurations of {whose}",
        cost_label=label,
        score_label="top-1 on the selection part, %"
        if problem.metric.is_accuracy
        else f"{problem.metric.name} on the selection part",
        cloud=[place(candidate) for _, candidate in candidates],
        cloud_texts=[(where(c.cost, c.score), skips(name, c.genes)) for name, c in candidates],
        front=[place(c) for c in front_of([*by_genes.values(), *answering_early])],
        chosen=[place(by_genes[name, one.genes]) for name, one in chosen]
        + [place(each) for each in answering_early],
        chosen_texts=[
            *(details(name, one) for name, one in chosen),
            *map(early_details, selection.early),
        ],
    )
