"""The picture of a trace as a page, by Plotly, which needs no network."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.extras import require
from skipc.compiler.files import write_whole
from skipc.tools.printable import short, shown
from skipc.tools.trace import palette
from skipc.tools.trace.content import content_of
from skipc.tools.trace.picture import time_unit
from skipc.tools.trace.view import HEADINGS, cells, sentences

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.call_trace import Trace, TracedCall
    from skipc.tools.trace.content import Content
    from skipc.tools.trace.summary import Summary

_POINTS = 6000
_MOMENTS = 1500
_LONGEST_NAME = 24
_REASON_COLUMNS = 60
_MOST_TEXT = 500

_LEGEND = {"orientation": "h", "yanchor": "bottom", "x": 0}
# Written out: others send the data somewhere.
_BUTTONS = ["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]
# Nothing may be loaded from anywhere: what the page needs is in it.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
    " img-src data: blob:"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 1300px; margin: 1.5em auto; padding: 0 1em; }}
h1 {{ font-size: 1.4em; overflow-wrap: anywhere; }}
figure {{ margin: 0; }}
table {{ border-collapse: collapse; margin: 1em 0; }}
caption {{ text-align: left; font-weight: 600; }}
th, td {{ padding: .2em 1em .2em 0; text-align: right; border-bottom: 1px solid #ddd; }}
th:first-child {{ text-align: left; overflow-wrap: anywhere; }}
td {{ font-variant-numeric: tabular-nums; white-space: nowrap; }}
.key {{ display: inline-block; width: .7em; height: .7em; margin-right: .5em; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<figure role="group" aria-label="{title}" aria-describedby="about">
{plot}
<figcaption id="about">
<p>{about}</p>
{notes}
</figcaption>
</figure>
<table>
<caption>The same in numbers</caption>
<thead><tr>{headings}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</main>
</body>
</html>
"""


def write_html(path: Path, trace: Trace, summary: Summary) -> None:
    """Writes the picture as one page that holds everything it needs.

    What the picture shows stands below it as text and as a table, too.

    Raises:
        ExtraMissingError: Plotly is not installed.
    """
    content = content_of(trace, _POINTS, _MOMENTS)
    figure = _figure(content)
    plot = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        config={"responsive": True, "displaylogo": False, "modeBarButtons": [_BUTTONS]},
    )
    colours = dict(
        zip(
            (each.name for each in content.columns.configurations),
            palette.colours(len(content.columns.configurations)),
            strict=True,
        )
    )
    notes = ["Drag to zoom, double-click to go back; hovering over a call says why it ran."]
    page = _PAGE.format(
        policy=html.escape(_POLICY),
        title=html.escape(content.title),
        plot=plot,
        about=html.escape(" ".join(sentences(summary))),
        notes="\n".join(f"<p>{html.escape(note)}</p>" for note in (*content.notes, *notes)),
        headings="".join(f'<th scope="col">{word.lstrip(">")}</th>' for word in HEADINGS),
        rows="\n".join(
            _row(colours[one.configuration], cells(one)) for one in summary.configurations
        ),
    )
    write_whole(path, page.encode())


def _row(colour: tuple[float, float, float], texts: tuple[str, ...]) -> str:
    name, *others = map(html.escape, texts)
    key = f'<span class="key" style="background:{_css(colour)}"></span>'
    numbers = "".join(f"<td>{text}</td>" for text in others)
    return f'<tr><th scope="row">{key}{name}</th>{numbers}</tr>'


def _figure(content: Content) -> Any:
    heights = [3.0, max(0.22 * len(content.rows), 0.5)]
    if content.energy is not None:
        heights.append(1.6)
    figure = require("plotly.subplots", "report").make_subplots(
        rows=len(heights),
        shared_xaxes=True,
        row_heights=[height / sum(heights) for height in heights],
        vertical_spacing=0.3 / sum(heights),
    )
    _add_latency(figure, content)
    _add_strip(figure, content)
    if content.energy is not None:
        _add_energy(figure, content)
    scale, unit = time_unit(content)
    figure.update_layout(
        template="plotly_white",
        hovermode="closest",
        height=int(120 * sum(heights)) + 140,
        margin={"l": 20, "r": 45, "t": 20, "b": 50},
        modebar={"orientation": "v"},
        legend=_LEGEND | {"y": 1.0},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1a1a1a"},
    )
    figure.update_xaxes(range=[scale * at for at in content.range_s], showgrid=True)
    figure.update_xaxes(
        title_text=f"time since the engine was opened ({unit})", row=len(heights), col=1
    )
    figure.update_yaxes(automargin=True)
    return figure


def _add_latency(figure: Any, content: Content) -> None:
    columns, (scale, _) = content.columns, time_unit(content)
    colours = palette.colours(len(columns.configurations))
    hover = "%{text}<extra></extra>"
    for failed in (False, True):
        for row in content.rows:
            own = content.drawn_of(row, failed)
            if not len(own):
                continue
            name = _safe(short(columns.configurations[row].name, _LONGEST_NAME))
            mark: dict[str, object] = {"size": 5, "color": _css(colours[row])}
            if failed:
                mark = {"size": 9, "symbol": "x-thin"}
                mark["line"] = {"width": 2, "color": palette.FAILED}
            figure.add_scatter(
                x=scale * columns.end_s[own], y=columns.latency_ms[own], mode="markers",
                name=f"{name}, failed" if failed else name, marker=mark,
                text=[_call_text(columns.calls[i]) for i in own], hovertemplate=hover,
                zorder=2 if failed else 0, row=1, col=1,
            )  # fmt: skip
    x, y = content.predictions
    figure.add_scatter(
        x=scale * x, y=y, mode="lines", name="prediction", hoverinfo="skip",
        line={"color": palette.PREDICTION, "width": 1}, zorder=-1, row=1, col=1,
    )  # fmt: skip
    x, y = content.limit
    if not np.isnan(y).all():
        figure.add_scatter(
            x=scale * x, y=y, mode="lines", name="limit", hoverinfo="skip",
            line={"color": palette.LIMIT, "width": 2, "shape": "hv"}, row=1, col=1,
        )  # fmt: skip
    spans = [] if content.strip is None else content.strip.infeasible_spans_s
    if spans:
        for x0, x1 in spans:
            figure.add_vrect(
                x0=scale * x0, x1=scale * x1, fillcolor=palette.INFEASIBLE, line_width=0,
                layer="below", row=1, col=1,
            )  # fmt: skip
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name="nothing meets the budget",
            marker={"size": 11, "color": palette.INFEASIBLE, "symbol": "square"}, row=1, col=1,
        )  # fmt: skip
    low, high = content.range_ms
    if content.logarithmic:
        low, high = float(np.log10(low)), float(np.log10(high))
        figure.update_yaxes(type="log", dtick="D2", row=1, col=1)
    figure.update_yaxes(title_text="latency (ms)", range=[low, high], row=1, col=1)


def _call_text(call: TracedCall) -> str:
    limit = "no limit" if call.limit_ms is None else f"limit {call.limit_ms:.4g} ms"
    lines = [
        f"{call.latency_ms:.4g} ms, {limit}, predicted {call.predicted_ms:.4g} ms",
        *_wrapped(call.reason),
        *_wrapped(f"failed: {call.failure}" if call.failure else ""),
    ]
    return "<br>".join([f"<b>{_safe(call.configuration)}</b>", *map(_safe, lines)])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(short(text, _MOST_TEXT), _REASON_COLUMNS)


def _add_strip(figure: Any, content: Content) -> None:
    strip, (scale, _) = content.strip, time_unit(content)
    configurations = content.columns.configurations
    colours = palette.colours(len(configurations))
    names = [_safe(short(configurations[row].name, _LONGEST_NAME)) for row in content.rows]
    for index, row in enumerate(content.rows if strip is not None else ()):
        assert strip is not None
        shares = np.round(strip.shares[row], 3)
        cells = [None if share == 0 or np.isnan(share) else float(share) for share in shares]
        colour = tuple(round(255 * channel) for channel in colours[row])
        figure.add_heatmap(
            x=scale * strip.edges_s, y=[index - 0.38, index + 0.38], z=[cells],
            # A lone call among hundreds is to be seen.
            colorscale=[[0, f"rgba{(*colour, 0.25)}"], [1, f"rgba{(*colour, 1)}"]],
            zmin=0, zmax=1, showscale=False, name=names[index],
            text=[[names[index]] * len(cells)], hoverongaps=False,
            hovertemplate="<b>%{text}</b><br>%{z:.0%} of the time around"
            " %{x}<extra></extra>",
            row=2, col=1,
        )  # fmt: skip
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(names))), ticktext=names,
        range=[max(len(names), 1) - 0.5, -0.5], showgrid=False, zeroline=False, row=2, col=1,
    )  # fmt: skip


def _add_energy(figure: Any, content: Content) -> None:
    panel, (scale, _) = content.energy, time_unit(content)
    if panel is None:
        return
    taken = iter((palette.POWER, palette.OTHER_POWER))
    granted = iter(("solid", "dash", "dot"))
    for line in panel.lines:
        style: dict[str, object] = {"width": 2, "shape": "hv" if line.stepped else "linear"}
        if line.granted:
            style |= {"color": palette.LIMIT, "dash": next(granted)}
        else:
            style |= {"color": next(taken)}
        label = line.label if line.granted else f"{line.label}, mean of {panel.window}"
        figure.add_scatter(
            x=scale * line.time_s, y=np.minimum(line.values, 10 * panel.top), mode="lines",
            name=label, line=style, zorder=0 if line.granted else 1, legend="legend2",
            hovertemplate="%{y:.4g}<extra></extra>", row=3, col=1,
        )  # fmt: skip
    figure.update_layout(legend2=_LEGEND | {"y": figure.layout.yaxis3.domain[1]})
    figure.update_yaxes(title_text=panel.axis, range=[0, panel.top], row=3, col=1)


def _safe(text: str) -> str:
    """Returns a text that Plotly, which reads some HTML in texts, shows as it is."""
    return html.escape(shown(text), quote=False)


def _css(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colour)
