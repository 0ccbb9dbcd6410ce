"""Marks that the charts have in common: points, symbols of the series, what hovering shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.report.texts import chosen, exact, number, percent, quantiles, ratio
from skipc.tools.web.chart import LEGEND, Chart, axis, hover, label, name_axis, rows_height_px
from skipc.tools.web.palette import LIGHT, ramp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skipc.tools.report.measurement import Measurement, Point
    from skipc.tools.report.study import Study
    from skipc.tools.web.chart import Json
    from skipc.tools.web.html import Table

    Trace = dict[str, Json]


# Told apart without colour, which is the configuration's.
_SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "hexagon"),
)
_LEGEND_PX = 30
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

TEXT: dict[str, Json] = {"color": LIGHT.ink, "size": 12}
"""The font of a name or a number beside a point."""


def colours_of(study: Study, names: Iterable[str]) -> list[str]:
    """Returns the colour of each configuration on a light ground."""
    colours = ramp(len(study.ranks))
    return [colours[study.ranks[name]] for name in names]


def series_symbol(index: int) -> str:
    """Returns the symbol of a series' points."""
    return _SYMBOLS[index % len(_SYMBOLS)]


def series_line(index: int) -> dict[str, Json]:
    """Returns the line of a series."""
    return {"width": 1.5, "color": LIGHT.muted, "dash": _DASHES[index % len(_DASHES)]}


def dot(colours: Sequence[str], size: int = 12, symbol: Json = "circle") -> Trace:
    """Returns the marker of configurations' points."""
    outline = {"width": 1, "color": LIGHT.ground}
    return {"size": size, "symbol": symbol, "color": list(colours), "line": outline}


def tick(size: int, colour: str = LIGHT.muted, width: float = 1.5) -> Trace:
    """Returns the marker of an upright stroke."""
    stroke = {"width": width, "color": colour}
    return {"symbol": "line-ns", "size": size, "color": colour, "line": stroke}


def hovering(texts: Iterable[str]) -> Trace:
    """Returns what makes a trace show these texts, one for each point."""
    # As a value: a template in a name is not filled in.
    return {"hovertext": list(texts), "hovertemplate": "%{hovertext}<extra></extra>"}


def legend_trace(index: int, name: str) -> Trace:
    """Returns an entry of the legend in no configuration's colour."""
    return {
        "type": "scatter", "mode": "lines+markers", "x": [None], "y": [None],
        "name": label(name, 60), "line": series_line(index), "hoverinfo": "skip",
        "marker": {"size": 10, "symbol": series_symbol(index), "color": LIGHT.muted},
        "showlegend": True,
    }  # fmt: skip


def reference_ring(x: float, y: float) -> Trace:
    """Returns a ring around the reference's point."""
    stroke = {"width": 1.5, "color": LIGHT.ink}
    return {
        "type": "scatter", "mode": "markers", "x": [x], "y": [exact(y)], "hoverinfo": "skip",
        "marker": {"size": 21, "symbol": "circle-open", "line": stroke, "color": LIGHT.ink},
        "showlegend": False, "cliponaxis": False,
    }  # fmt: skip


def measured_hover(study: Study, one: Measurement, point: Point) -> str:
    """Returns what is known of a configuration on one device."""
    entry = study.manifest.configuration(point.configuration)
    lines = [f"accuracy {percent(entry.metrics['accuracy'])}"] if study.knows_accuracy else []
    if point.quantiles:
        lines.append(quantiles(point))
    if point.configuration == one.reference:
        lines.append("the reference")
    elif point.ratio is not None:
        lines.append(f"{ratio(point.ratio)} of {one.reference}")
    if point.energy is not None:
        mark = ", an estimate" if one.energy_is_estimated else ""
        lines.append(f"{number(point.energy.mean_mj)} mJ per call{mark}")
    return hover(point.configuration, one.label, *lines, chosen(entry))


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of every bar.

    Attributes:
        words: What it stands for, in the legend.
        colour: Its colour on a light ground.
        pattern: Plotly's pattern, which tells it without colour; empty for a full bar.
    """

    words: str
    colour: str
    pattern: str


def stacked_bars(
    piece: Piece, names: Sequence[str], values: Sequence[float], texts: Sequence[str]
) -> Trace:
    """Returns one piece of all bars.

    Args:
        piece: Which one.
        names: A row each, the first on top.
        values: Its length in each row, in the axis' unit.
        texts: What is said of it in each row.
    """
    hatched: Json = {
        "shape": piece.pattern, "fillmode": "replace", "size": 6, "solidity": 0.45,
        "fgcolor": piece.colour, "bgcolor": LIGHT.ground,
    }  # fmt: skip
    return {
        "type": "bar", "orientation": "h", "name": piece.words, "width": 0.62,
        "x": [exact(value) for value in values], "y": list(range(len(values))),
        "marker": {"color": piece.colour, "pattern": hatched if piece.pattern else {}},
        **hovering(map(hover, names, texts)),
    }  # fmt: skip


def strokes(
    words: str, names: Sequence[str], values: Sequence[float], texts: Sequence[str]
) -> Trace:
    """Returns an upright stroke over each bar; the arguments are those of ``stacked_bars``."""
    return {
        "type": "scatter", "mode": "markers", "name": words, "y": list(range(len(names))),
        "x": [exact(value) for value in values], "marker": tick(22, LIGHT.ink, 2),
        **hovering(map(hover, names, texts)),
    }  # fmt: skip


def stacked_chart(
    name: str,
    title: str,
    caption: str,
    traces: Sequence[Trace],
    names: Sequence[str],
    length: str,
    table: Table,
) -> Chart:
    """Returns a chart of stacked bars.

    Args:
        name: The chart's name.
        title: What it shows.
        caption: What to see.
        traces: The pieces, and strokes over them.
        names: A row each, the first on top.
        length: What the bars' length is, with its unit.
        table: The same in numbers.
    """
    layout = {
        "barmode": "stack",
        "xaxis": axis(length, rangemode="tozero"),
        "yaxis": name_axis(names),
        "showlegend": True,
        "legend": LEGEND,
    }
    height_px = rows_height_px(len(names), 34) + _LEGEND_PX
    return Chart(name, title, caption, traces, layout, height_px, table)
