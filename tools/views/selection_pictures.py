"""The Pareto picture: a PNG by matplotlib, and a page by Plotly that needs no network."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler import axes
from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.bundle.files import write_whole
from skipc.compiler.extras import require
from skipc.compiler.select.options import CostKind
from skipc.compiler.select.pareto import front_of
from skipc.tools.console import short
from skipc.tools.web.chart import LEGEND, Chart, Interaction, axis, hover
from skipc.tools.web.html import Table, element
from skipc.tools.web.labels import along_steps, draw_names, named
from skipc.tools.web.page import Page, Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from skipc.compiler.select.selecting import Chosen, Selection
    from skipc.compiler.select.space import Candidate
    from skipc.tools.web.chart import Json

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


@dataclass(frozen=True, slots=True)
class _Points:
    """What both pictures show, in their units."""

    cost_label: str
    score_label: str
    cloud: tuple[list[float], list[float]]
    front: tuple[list[float], list[float]]
    chosen: tuple[list[float], list[float]]
    names: list[str]
    cloud_texts: list[tuple[str, ...]]
    chosen_texts: list[tuple[str, ...]]
    title: str


def write_png(path: Path, selection: Selection) -> None:
    """Writes the picture as PNG, 1200 x 750 pixels.

    Raises:
        ExtraMissingError: matplotlib is not installed.
    """
    figure = require("matplotlib.figure", "select").Figure(figsize=(8, 5), dpi=150)
    points = _points(selection)
    axes = figure.subplots()
    axes.scatter(*points.cloud, s=14, color=_CLOUD, label="evaluated")
    axes.step(*points.front, where="post", color=_FRONT, linewidth=1.2, label="front")
    axes.scatter(*points.chosen, s=36, color=_CHOSEN, zorder=3, label="chosen")
    axes.set_xlabel(points.cost_label)
    axes.set_ylabel(points.score_label)
    axes.set_title(points.title, fontsize=10, loc="left")
    axes.margins(x=0.08, y=0.08)
    lowest, highest = _lowest_shown(points), max(points.cloud[1])
    axes.set_ylim(lowest, highest + 0.12 * (highest - lowest))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    figure.tight_layout()
    corners = list(zip(*points.front, strict=True))
    others = [*along_steps(corners), *zip(*points.cloud, strict=True)]
    draw_names(axes, points.names, list(zip(*points.chosen, strict=True)), others)
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    write_whole(path, data.getvalue())


def _lowest_shown(points: _Points) -> float:
    """Returns where the vertical axis begins: not far below what was chosen.

    A network with most units skipped scores so little that nothing else could be told apart;
    the page, which can be zoomed, shows everything.
    """
    evaluated, chosen = points.cloud[1], points.chosen[1]
    margin = 3 * (max(evaluated) - min(chosen)) or 1.0
    return max(min(evaluated), min(chosen) - margin) - 0.05 * margin


def write_html(path: Path, selection: Selection) -> None:
    """Writes the picture as one page that holds everything it needs.

    Raises:
        ExtraMissingError: Plotly is not installed.
    """
    points = _points(selection)
    lowest, highest = _lowest_shown(points), max(points.cloud[1])
    margin = 0.12 * (highest - lowest)
    corners = list(along_steps(list(zip(*points.front, strict=True))))
    chart = Chart(
        "front",
        "What each configuration scores and costs",
        "Up and to the left is better. Point at one, or tap it, to see what it skips. Drag to"
        " zoom, double-click to go back; once more shows what lies far below the chosen, too.",
        [
            _dots("evaluated", points.cloud, points.cloud_texts, LIGHT.some, 6),
            _line(points.front),
            _dots("chosen", points.chosen, points.chosen_texts, LIGHT.own, 11),
        ],
        {
            "xaxis": axis(points.cost_label),
            "yaxis": axis(points.score_label, range=[lowest, highest + margin]),
            "showlegend": True,
            "legend": LEGEND,
            **named(points.names, list(zip(*points.chosen, strict=True)), corners),
        },
        520,
        _table(points),
        Interaction.ZOOM,
    )
    section = Section("chosen", "The front", _LEAD, chart.html())
    page = Page(points.title, element("h1", points.title), [section], ranks=1)
    write_whole(path, page.encoded("select"))


def _dots(
    name: str,
    places: tuple[list[float], list[float]],
    texts: Sequence[Sequence[str]],
    colour: str,
    size: int,
) -> Mapping[str, Json]:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": places[0], "y": places[1],
        "hovertext": [hover(*lines) for lines in texts],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"size": size, "color": colour},
    }  # fmt: skip


def _line(places: tuple[list[float], list[float]]) -> Mapping[str, Json]:
    return {
        "type": "scatter", "mode": "lines", "name": "front", "hoverinfo": "skip",
        "x": places[0], "y": places[1],
        "line": {"shape": "hv", "color": LIGHT.muted, "width": 1.5},
    }  # fmt: skip


def _table(points: _Points) -> Table:
    cells = zip(points.names, *points.chosen, points.chosen_texts, strict=True)
    return Table(
        "The chosen configurations",
        ("configuration", f">{points.cost_label}", f">{points.score_label}", "units"),
        tuple(
            (short(name, 60), f"{cost:.4g}", f"{score:.2f}", short(texts[-1], 400))
            for name, cost, score, texts in cells
        ),
    )


def _points(selection: Selection) -> _Points:
    problem = selection.problem
    label, scale = _AXES[selection.cost]
    percent = 100.0 if problem.metric.is_accuracy else 1.0
    by_genes = {candidate.genes: candidate for candidate in selection.candidates}

    def text(candidate: Candidate) -> tuple[str, str]:
        choices = problem.family.decoded(candidate.genes)
        taken = {a.key: a.taken(choices[a.key]) for a in axes.AXES if a.key in choices}
        skipped = f"skips {', '.join(taken.pop(SkipAxis.key, ())) or 'nothing'}"
        others = [f"{key}: {', '.join(names)}" for key, names in taken.items()]
        where = f"{percent * candidate.score:.2f} at {scale * candidate.cost:.4g}"
        return where, "; ".join([skipped, *others])

    def pairs(found: Sequence[Candidate]) -> tuple[list[float], list[float]]:
        return [scale * c.cost for c in found], [percent * c.score for c in found]

    def details(one: Chosen) -> tuple[str, ...]:
        reported = f"report part {percent * one.score:.2f}"
        where, skips = text(by_genes[one.genes])
        return one.name, reported, f"selection {where}", skips

    front = front_of(selection.candidates)
    return _Points(
        cost_label=label,
        score_label="top-1 on the selection part, %"
        if problem.metric.is_accuracy
        else f"{problem.metric.name} on the selection part",
        cloud=pairs(selection.candidates),
        front=pairs(front),
        chosen=pairs([by_genes[one.genes] for one in selection.chosen]),
        names=[one.name for one in selection.chosen],
        cloud_texts=[text(candidate) for candidate in selection.candidates],
        chosen_texts=[details(one) for one in selection.chosen],
        title=f"{len(selection.candidates)} configurations of"
        f" {problem.family.network.description}",
    )
