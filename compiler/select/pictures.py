"""The Pareto picture: a PNG by matplotlib, and a page by Plotly that needs no network."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.extras import require
from skipc.compiler.files import write_whole
from skipc.compiler.select.costs import CostKind
from skipc.compiler.select.pareto import front_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skipc.compiler.select.candidates import Candidate
    from skipc.compiler.select.selecting import Chosen, Selection

_AXES = {
    CostKind.MACS: ("MACs, millions", 1e-6),
    CostKind.PARAMETERS: ("parameters, thousands", 1e-3),
    CostKind.LATENCY: ("predicted latency, ms", 1.0),
    CostKind.ENERGY: ("energy, mJ", 1.0),
}
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
    cloud_texts: list[str]
    chosen_texts: list[str]
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
    for x, y, name in zip(*points.chosen, points.names, strict=True):
        # Above and to the left of a front there is nothing; slanted, names keep apart.
        axes.annotate(
            name, (x, y), xytext=(-3, 5), textcoords="offset points", fontsize=8, zorder=4,
            rotation=-40, rotation_mode="anchor", ha="right", va="bottom",
        )  # fmt: skip
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
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    write_whole(path, data.getvalue())


def _lowest_shown(points: _Points) -> float:
    """Returns where the vertical axis begins: not far below what was chosen.

    A network with most units skipped scores so little that nothing else could be told apart;
    the page, which can be zoomed, shows everything.
    """
    evaluated, chosen = points.cloud[1], points.chosen[1]
    room = 3 * (max(evaluated) - min(chosen)) or 1.0
    return max(min(evaluated), min(chosen) - room) - 0.05 * room


def write_html(path: Path, selection: Selection) -> None:
    """Writes the picture as one page that holds everything it needs.

    Raises:
        ExtraMissingError: Plotly is not installed.
    """
    plotly = require("plotly.graph_objects", "select")
    points = _points(selection)
    figure = plotly.Figure()
    hover = "%{text}<extra></extra>"
    figure.add_scatter(
        x=points.cloud[0], y=points.cloud[1], text=points.cloud_texts, hovertemplate=hover,
        mode="markers", name="evaluated", marker={"size": 6, "color": _CLOUD},
    )  # fmt: skip
    figure.add_scatter(
        x=points.front[0], y=points.front[1], mode="lines", name="front", hoverinfo="skip",
        line={"shape": "hv", "color": _FRONT},
    )  # fmt: skip
    figure.add_scatter(
        x=points.chosen[0], y=points.chosen[1], text=points.chosen_texts, hovertemplate=hover,
        mode="markers", name="chosen", marker={"size": 11, "color": _CHOSEN},
    )  # fmt: skip
    figure.update_layout(
        title=points.title, xaxis_title=points.cost_label, yaxis_title=points.score_label,
        template="plotly_white", hovermode="closest",
    )  # fmt: skip
    write_whole(path, figure.to_html(include_plotlyjs=True, full_html=True).encode())


def _points(selection: Selection) -> _Points:
    problem = selection.problem
    label, scale = _AXES[selection.cost]
    percent = 100.0 if problem.metric.is_accuracy else 1.0
    by_bits = {candidate.bits: candidate for candidate in selection.candidates}

    def skipped(candidate: Candidate) -> str:
        names = [unit.name for unit in problem.skipped(candidate.bits)]
        lines = [", ".join(names[i : i + 4]) for i in range(0, len(names), 4)]
        return "skips " + ("<br>".join(lines) or "nothing")

    def text(candidate: Candidate) -> str:
        where = f"{percent * candidate.score:.2f} at {scale * candidate.cost:.4g}"
        return f"{where}<br>{skipped(candidate)}"

    def pairs(found: Sequence[Candidate]) -> tuple[list[float], list[float]]:
        return [scale * c.cost for c in found], [percent * c.score for c in found]

    def details(one: Chosen) -> str:
        report = f"<b>{one.name}</b>: report part {percent * one.score:.2f}"
        return f"{report}<br>selection {text(by_bits[one.bits])}"

    front = front_of(selection.candidates)
    return _Points(
        cost_label=label,
        score_label="top-1 on the selection part, %"
        if problem.metric.is_accuracy
        else f"{problem.metric.name} on the selection part",
        cloud=pairs(selection.candidates),
        front=pairs(front),
        chosen=pairs([by_bits[one.bits] for one in selection.chosen]),
        names=[one.name for one in selection.chosen],
        cloud_texts=[text(candidate) for candidate in selection.candidates],
        chosen_texts=[details(one) for one in selection.chosen],
        title=f"{len(selection.candidates)} configurations of"
        f" {problem.source.supernet.description}",
    )
