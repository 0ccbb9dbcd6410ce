"""The picture of a trace as a page, by Plotly, which needs no network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.bundle.files import write_whole
from skipc.compiler.extras import require
from skipc.tools.trace.content import content_of
from skipc.tools.trace.picture import time_unit
from skipc.tools.trace.summary import HEADINGS, cells, sentences
from skipc.tools.web.chart import LEGEND, Chart, Interaction, axis, hover, label
from skipc.tools.web.html import Table, element, joined, keyed
from skipc.tools.web.page import Page, Section
from skipc.tools.web.palette import LIGHT, ramp

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.call.trace import Trace, TracedCall
    from skipc.tools.trace.content import Content
    from skipc.tools.trace.summary import Summary

_POINTS = 6000
_MOMENTS = 1500


def write_html(path: Path, trace: Trace, summary: Summary) -> None:
    """Writes the picture as one page that holds everything it needs.

    What the picture shows stands below it as text and as a table, too.

    Raises:
        ExtraMissingError: Plotly is not installed.
    """
    content = content_of(trace, _POINTS, _MOMENTS)
    made = json.loads(_figure(content).to_json())
    notes = (
        *content.notes,
        "Drag to zoom, double-click to go back; hovering over a call says why it ran.",
    )
    chart = Chart(
        "calls",
        f"{'Latency' if content.energy is None else 'Latency, energy'} and configuration",
        " ".join(notes),
        made["data"],
        made["layout"],
        made["layout"]["height"],
        None,
        Interaction.ZOOM,
    )
    ranks = {each.name: rank for rank, each in enumerate(content.columns.configurations)}
    rows = (cells(one) for one in summary.configurations)
    told = tuple(
        (keyed(name, ranks[one.configuration]), *numbers)
        for one, (name, *numbers) in zip(summary.configurations, rows, strict=True)
    )
    sections = [
        Section("over-time", "Over time", " ".join(sentences(summary)), chart.html()),
        Section(
            "numbers",
            "The same in numbers",
            "",
            Table("By configuration", HEADINGS, told).html(),
        ),
    ]
    header = joined(
        element("p", "skipc trace", class_="eyebrow"), element("h1", content.title)
    )
    page = Page(content.title, header, sections, ranks=len(ranks))
    write_whole(path, page.encoded("report"))


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
    look = axis("")
    figure.update_xaxes(**look)
    figure.update_yaxes(**look)
    _add_latency(figure, content)
    _add_strip(figure, content)
    if content.energy is not None:
        _add_energy(figure, content)
    scale, unit = time_unit(content)
    figure.update_layout(
        template="none",
        height=int(120 * sum(heights)) + 140,
        margin={"l": 20, "r": 20, "t": 20, "b": 50},
        showlegend=True,
        legend=LEGEND | {"y": 1.0},
    )
    figure.update_xaxes(range=[scale * at for at in content.range_s], showgrid=True)
    figure.update_xaxes(
        title_text=f"time since the engine was opened ({unit})", row=len(heights), col=1
    )
    return figure


def _add_latency(figure: Any, content: Content) -> None:
    columns, (scale, _) = content.columns, time_unit(content)
    colours = ramp(len(columns.configurations))
    for failed in (False, True):
        for row in content.rows:
            own = content.drawn_of(row, failed)
            if not len(own):
                continue
            name = label(columns.configurations[row].name)
            mark: dict[str, object] = {"size": 5, "color": colours[row]}
            if failed:
                mark = {"size": 9, "symbol": "x-thin"}
                mark["line"] = {"width": 2, "color": LIGHT.alarm}
            figure.add_scatter(
                x=scale * columns.end_s[own], y=columns.latency_ms[own], mode="markers",
                name=f"{name}, failed" if failed else name, marker=mark,
                text=[_call_text(columns.calls[i]) for i in own],
                hovertemplate="%{text}<extra></extra>",
                zorder=2 if failed else 0, row=1, col=1,
            )  # fmt: skip
    x, y = content.predictions
    figure.add_scatter(
        x=scale * x, y=y, mode="lines", name="prediction", hoverinfo="skip",
        line={"color": LIGHT.muted, "width": 1}, zorder=-1, row=1, col=1,
    )  # fmt: skip
    x, y = content.limit
    if not np.isnan(y).all():
        figure.add_scatter(
            x=scale * x, y=y, mode="lines", name="limit", hoverinfo="skip",
            line={"color": LIGHT.ink, "width": 2, "shape": "hv"}, row=1, col=1,
        )  # fmt: skip
    spans = [] if content.strip is None else content.strip.infeasible_spans_s
    if spans:
        for x0, x1 in spans:
            figure.add_vrect(
                x0=scale * x0, x1=scale * x1, fillcolor=LIGHT.grid, line_width=0,
                layer="below", row=1, col=1,
            )  # fmt: skip
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name="nothing meets the budget",
            marker={"size": 11, "color": LIGHT.grid, "symbol": "square"}, row=1, col=1,
        )  # fmt: skip
    low, high = content.range_ms
    if content.logarithmic:
        low, high = float(np.log10(low)), float(np.log10(high))
        figure.update_yaxes(type="log", dtick="D2", row=1, col=1)
    figure.update_yaxes(title_text="latency (ms)", range=[low, high], row=1, col=1)


def _call_text(call: TracedCall) -> str:
    limit = "no limit" if call.limit_ms is None else f"limit {call.limit_ms:.4g} ms"
    lines = [f"{call.latency_ms:.4g} ms, {limit}, predicted {call.predicted_ms:.4g} ms"]
    lines += [call.reason, f"failed: {call.failure}" if call.failure else ""]
    return hover(call.configuration, *filter(None, lines))


def _add_strip(figure: Any, content: Content) -> None:
    strip, (scale, _) = content.strip, time_unit(content)
    configurations = content.columns.configurations
    colours = ramp(len(configurations))
    names = [label(configurations[row].name) for row in content.rows]
    for index, row in enumerate(content.rows if strip is not None else ()):
        assert strip is not None
        shares = np.round(strip.shares[row], 3)
        cells = [None if share == 0 or np.isnan(share) else float(share) for share in shares]
        figure.add_heatmap(
            x=scale * strip.edges_s, y=[index - 0.38, index + 0.38], z=[cells],
            # A lone call among hundreds is to be seen.
            colorscale=[[0, f"{colours[row]}40"], [1, f"{colours[row]}ff"]],
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
    taken = iter((LIGHT.every, LIGHT.own))
    granted = iter(("solid", "dash", "dot"))
    for line in panel.lines:
        style: dict[str, object] = {"width": 2, "shape": "hv" if line.stepped else "linear"}
        if line.granted:
            style |= {"color": LIGHT.ink, "dash": next(granted)}
        else:
            style |= {"color": next(taken)}
        name = line.label if line.granted else f"{line.label}, mean of {panel.window}"
        figure.add_scatter(
            x=scale * line.time_s, y=np.minimum(line.values, 10 * panel.top), mode="lines",
            name=name, line=style, zorder=0 if line.granted else 1, legend="legend2",
            hovertemplate="%{y:.4g}<extra></extra>", row=3, col=1,
        )  # fmt: skip
    figure.update_layout(legend2=LEGEND | {"y": figure.layout.yaxis3.domain[1]})
    figure.update_yaxes(title_text=panel.axis, range=[0, panel.top], row=3, col=1)
