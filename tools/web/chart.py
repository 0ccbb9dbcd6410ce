"""Charts: what Plotly draws, with a heading, what to see in it, and the same as a table."""

from __future__ import annotations

import html
import json
import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.web.html import Html, details, element
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from skipc.tools.web.html import Table

Json = object
"""What ``json.dumps`` takes; the keys are those of Plotly's reference."""
Trace = dict[str, Json]

_LONGEST_NAME = 24
_MOST_HOVER = 500
_HOVER_COLUMNS = 60
_MOST_LARGE_ROWS = 24
_LEGEND_PX = 30

LEGEND: dict[str, Json] = {
    "orientation": "h",
    "x": 0,
    "y": 1.02,
    "yanchor": "bottom",
    "traceorder": "normal",
    "font": {"color": LIGHT.ink, "size": 13},
    "itemclick": False,
    "itemdoubleclick": False,
}
"""A legend above the plot."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart.

    Attributes:
        name: Its name in the page, unique.
        caption: What to see, and what was left out.
        traces: Plotly's ``data``.
        layout: Plotly's ``layout``, over the page's own.
        height_px: The height; the width is the page's.
        table: The same in numbers, shown on demand; None where the page shows it anyway.
        zooms: Whether it can be zoomed: it takes a phone's swipes, then.
    """

    name: str
    title: str
    caption: str
    traces: Sequence[Mapping[str, Json]]
    layout: Mapping[str, Json]
    height_px: int
    table: Table | None
    zooms: bool = False

    def figure(self) -> dict[str, Json]:
        """Returns what Plotly is given, in the colours of the light theme."""
        layout = _layout(self.layout, self.height_px) | {"dragmode": self.zooms and "zoom"}
        for key, value in layout.items():
            if key.startswith(("xaxis", "yaxis")) and isinstance(value, dict):
                layout[key] = {**value, "fixedrange": not self.zooms}
        return {"data": list(self.traces), "layout": layout}

    def html(self) -> Html:
        """Returns the chart as a ``figure``."""
        title_id, caption_id = f"{self.name}-title", f"{self.name}-caption"
        plot = element(
            "div",
            class_="plot",
            role="group" if self.zooms else "img",
            id=self.name,
            style=f"height:{self.height_px}px",
            aria_labelledby=title_id,
            aria_describedby=caption_id,
        )
        return element(
            "figure",
            element("h3", self.title, id=title_id),
            plot,
            element("figcaption", self.caption, id=caption_id),
            "" if self.table is None else details("The same as a table", self.table.html()),
            embedded_json(self.figure(), f"{self.name}-figure"),
            class_="chart",
        )


def label(text: str, most: int = _LONGEST_NAME) -> str:
    """Returns a name as Plotly, which reads some HTML in texts, is to show it."""
    return _plain(short(text, most))


def hover(*lines: str) -> str:
    """Returns the text that appears above a point; the first line is its name."""
    first, *others = (
        _plain(part)
        for line in lines
        for part in textwrap.wrap(short(line, _MOST_HOVER), _HOVER_COLUMNS) or [""]
    )
    return "<br>".join((f"<b>{first}</b>", *others))


def hovering(texts: Iterable[Json]) -> Trace:
    """Returns what makes a trace show these texts, one for each point."""
    # As a value: a template in a name is not filled in.
    return {"hovertext": list(texts), "hovertemplate": "%{hovertext}<extra></extra>"}


def _plain(text: str) -> str:
    # Between two dollar signs Plotly looks for TeX.
    return html.escape(text, quote=False).replace("$", "&#36;")


def axis(title: str, **own: Json) -> dict[str, Json]:
    """Returns an axis in the page's style; ``own`` comes on top."""
    return {
        "title": {"text": title, "standoff": 14, "font": {"size": 13, "color": LIGHT.muted}},
        "automargin": True,
        "gridcolor": LIGHT.grid,
        "linecolor": LIGHT.grid,
        "zeroline": False,
        "ticks": "",
        "tickfont": {"color": LIGHT.muted},
        **own,
    }


def log_axis(title: str, low: float, high: float, **own: Json) -> dict[str, Json]:
    """Returns a logarithmic axis over such values, with ticks at 1, 2 and 5 in whole numbers.

    Plotly would leave out powers of ten, or print one digit of the others.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    return axis(
        title, type="log", tickmode="array", tickvals=ticks,
        ticktext=[f"{tick:.15g}" for tick in ticks], **own,
    )  # fmt: skip


def row_chart(
    name: str,
    title: str,
    caption: str,
    traces: Sequence[Mapping[str, Json]],
    names: Sequence[str],
    across: Json,
    table: Table,
    **own: Json,
) -> Chart:
    """Returns a chart with a row for each name, the first on top; ``own`` is further layout.

    Rows have numbers: two names may look the same once they are cut.
    """
    count, large = len(names), len(names) <= _MOST_LARGE_ROWS
    upright = axis(
        "",
        tickmode="array",
        tickvals=list(range(count)),
        ticktext=[label(name) for name in names],
        tickfont={"color": LIGHT.ink, "size": 13 if large else 10},
        range=[count - 0.4, -0.6],
        showgrid=False,
    )
    layout = {"xaxis": across, "yaxis": upright, **own}
    height_px = 80 + count * (35 if large else 16) + _LEGEND_PX * ("legend" in own)
    return Chart(name, title, caption, traces, layout, height_px, table)


def embedded_json(value: Json, name: str) -> Html:
    """Returns a block of data that no text in it can end."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    # Whatever a browser looks for in a script: its end, a comment's beginning.
    data = text.replace("<", "\\u003c").replace("&", "\\u0026")
    return element("script", Html(data), type="application/json", id=name)


def _layout(own: Mapping[str, Json], height_px: int) -> dict[str, Json]:
    return {
        "height": height_px,
        "paper_bgcolor": LIGHT.ground,
        "plot_bgcolor": LIGHT.ground,
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": LIGHT.ink},
        "margin": {"l": 8, "r": 16, "t": 8, "b": 8},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": LIGHT.raised,
            "bordercolor": LIGHT.muted,
            "font": {"color": LIGHT.ink, "size": 13},
            "align": "left",
        },
        "showlegend": False,
        "uirevision": "zoom survives another theme",
        **own,
    }
