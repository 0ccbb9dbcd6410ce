"""Stacked bars, a row for each configuration: what a whole is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.report.sections.marks import hovering
from skipc.tools.report.texts import exact
from skipc.tools.web.chart import LEGEND, axis, name_axis, rows_height_px
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.tools.report.sections.marks import Trace
    from skipc.tools.web.chart import Json

_LEGEND_PX = 30


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


def stacked_bars(piece: Piece, values: Sequence[float], hovers: Sequence[str]) -> Trace:
    """Returns one piece of all bars.

    Args:
        piece: Which one.
        values: Its length in each row, in the axis' unit.
        hovers: What hovering over each shows.
    """
    hatched: Json = {
        "shape": piece.pattern, "fillmode": "replace", "size": 6, "solidity": 0.45,
        "fgcolor": piece.colour, "bgcolor": LIGHT.ground,
    }  # fmt: skip
    return {
        "type": "bar", "orientation": "h", "name": piece.words, "width": 0.62,
        "x": [exact(value) for value in values], "y": list(range(len(values))),
        "marker": {"color": piece.colour, "pattern": hatched if piece.pattern else {}},
        **hovering(hovers),
    }  # fmt: skip


def stacked_layout(names: Sequence[str], title: str) -> dict[str, Json]:
    """Returns the layout of stacked bars.

    Args:
        names: A row each, the first on top.
        title: What the bars' length is, with its unit.
    """
    return {
        "barmode": "stack",
        "xaxis": axis(title, rangemode="tozero"),
        "yaxis": name_axis(names),
        "showlegend": True,
        "legend": LEGEND,
    }


def stacked_height_px(count: int) -> int:
    """Returns the height of a chart with so many bars, its legend included."""
    return rows_height_px(count, 34) + _LEGEND_PX
