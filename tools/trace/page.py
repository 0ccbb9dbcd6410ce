"""The picture of a trace as a page, by Plotly, which needs no network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.bundle.files import write_whole
from skipc.tools.trace.content import content_of, exit_colours
from skipc.tools.trace.summary import numbers_of, sentences
from skipc.tools.web.chart import LEGEND, Chart, axis, hover, hovering, label, log_axis
from skipc.tools.web.html import Table, element, joined, keyed
from skipc.tools.web.page import Page, Section
from skipc.tools.web.palette import LIGHT, ramp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from skipc.runtime.call.trace import Trace, TracedCall
    from skipc.tools.trace.columns import Floats, Line
    from skipc.tools.trace.content import Content
    from skipc.tools.trace.summary import Summary
    from skipc.tools.web.chart import Json
    from skipc.tools.web.chart import Trace as Mark

_POINTS = 6000
_MOMENTS = 1500
_SPACING = 0.3
_PX = 120


def write_html(path: Path, trace: Trace, summary: Summary) -> None:
    """Writes the picture as one page that holds everything it needs.

    What the picture shows stands below it as text and as a table, too.

    Raises:
        ExtraMissingError: Plotly is not installed.
    """
    content = content_of(trace, _POINTS, _MOMENTS)
    headings, rows = numbers_of(summary)
    told = tuple((keyed(name, rank), *numbers) for rank, (name, *numbers) in enumerate(rows))
    numbers = Table("By configuration", headings, told).html()
    said = " ".join(sentences(summary))
    header = joined(
        element("p", "skipc trace", class_="eyebrow"), element("h1", content.title)
    )
    sections = [
        Section("over-time", "Over time", said, _chart(content).html()),
        Section("numbers", "The same in numbers", "", numbers),
    ]
    page = Page(content.title, header, sections, ranks=len(told))
    write_whole(path, page.encoded("report"))


def _chart(content: Content) -> Chart:
    """Returns the panels, one above the other over one axis of time."""
    rows, (low, high), what = content.rows, content.range_ms, "latency (ms)"
    latency = axis(what, range=[low, high])
    if content.logarithmic:
        latency = log_axis(what, low, high, range=[math.log10(low), math.log10(high)])
    strip = axis(
        "", tickmode="array", tickvals=list(range(len(rows))),
        ticktext=[_name(content, row) for row in rows],
        range=[max(len(rows), 1) - 0.5, -0.5], showgrid=False,
    )  # fmt: skip
    uprights = [(3.0, latency), (max(0.22 * len(rows), 0.5), strip)]
    if content.exits is not None:
        uprights.append((1.2, axis("answered at (%)", range=[0, 100])))
    if content.energy is not None:
        panel = content.energy
        uprights.append((1.6, axis(panel.axis, range=[0, panel.top])))
    layout: dict[str, Json] = {
        "margin": {"l": 20, "r": 20, "t": 20, "b": 50},
        "showlegend": True,
        "legend": LEGEND | {"y": 1.0},
        "shapes": [
            # The grey ground of the latency panel.
            {
                "type": "rect", "xref": "x", "yref": "y domain", "layer": "below",
                "x0": content.scale * first_s, "x1": content.scale * last_s, "y0": 0, "y1": 1,
                "fillcolor": LIGHT.grid, "line": {"width": 0},
            }
            for first_s, last_s in content.infeasible_spans_s
        ] + [
            # A change of the power mode.
            {
                "type": "line", "xref": "x", "yref": "paper", "x0": content.scale * at_s,
                "x1": content.scale * at_s, "y0": 0, "y1": 1,
                "line": {"width": 1, "dash": "dot", "color": LIGHT.muted},
            }
            for at_s, _ in content.modes
        ],
        "annotations": [
            {
                "xref": "x", "yref": "y domain", "x": content.scale * at_s, "y": 0,
                "xanchor": "left", "yanchor": "bottom", "text": label(mode),
                "showarrow": False, "font": {"color": LIGHT.muted},
            }
            for at_s, mode in content.modes
        ],
    }  # fmt: skip
    more = (("exits", content.exits), ("energy", content.energy))
    shown = ["latency", "configuration", *(name for name, panel in more if panel is not None)]
    last, whole, top = len(uprights), sum(height for height, _ in uprights), 1.0
    gap = _SPACING / whole
    for number, (height, upright) in enumerate(uprights, 1):
        is_last, key = number == last, "" if number == 1 else str(number)
        bottom = top - (1 - gap * (last - 1)) * height / whole
        layout[f"xaxis{key}"] = axis(
            f"time since the engine was opened ({content.unit})" if is_last else "",
            anchor=f"y{key}", showticklabels=is_last, showgrid=True,
            range=[content.scale * at for at in content.range_s],
            **({} if is_last else {"matches": f"x{last}"}),
        )  # fmt: skip
        domain = [max(bottom, 0.0), top]
        layout[f"yaxis{key}"] = {**upright, "anchor": f"x{key}", "domain": domain}
        if number > 2:
            layout[f"legend{number}"] = LEGEND | {"y": top}
        top = bottom - gap
    return Chart(
        "calls",
        f"{', '.join(shown[:-1])} and {shown[-1]}".capitalize(),
        " ".join((
            *content.notes,
            "Drag to zoom, double-click to go back; point at a call to see why it ran.",
        )),
        [*_latency(content), *_strip(content), *_exits(content), *_energy(content, last)],
        layout,
        int(_PX * whole) + 140,
        None,
        zooms=True,
    )  # fmt: skip


def _numbers(values: Floats) -> list[float | None]:
    """Returns what JSON takes, with digits enough for any zoom; None where there is none."""
    return [None if math.isnan(v) else float(f"{v:.9g}") for v in values.tolist()]


def _name(content: Content, row: int) -> str:
    return label(content.columns.configurations[row].name)


def _latency(content: Content) -> Iterator[Mark]:
    columns = content.columns
    colours = ramp(len(columns.configurations))
    for failed in (False, True):
        for row in content.rows:
            own = content.drawn_of(row, failed)
            if not len(own):
                continue
            name = _name(content, row)
            mark: Mark = {"size": 5, "color": colours[row]}
            if failed:
                stroke = {"width": 2, "color": LIGHT.alarm}
                mark = {"size": 9, "symbol": "x-thin", "line": stroke}
            yield {
                "type": "scatter", "mode": "markers", "marker": mark,
                "name": f"{name}, failed" if failed else name, "zorder": 2 if failed else 0,
                "x": _numbers(content.scale * columns.end_s[own]),
                "y": _numbers(columns.latency_ms[own]),
                **hovering(_call_text(columns.calls[i]) for i in own),
            }  # fmt: skip
    style: Mark = {"color": LIGHT.muted, "width": 1}
    yield from _line(content, content.prediction, style, zorder=-1, hoverinfo="skip")
    style = {"color": LIGHT.ink, "width": 2}
    yield from _line(content, content.limit, style, zorder=0, hoverinfo="skip")
    if content.infeasible_spans_s:
        yield {
            "type": "scatter", "mode": "markers", "x": [None], "y": [None],
            "name": "nothing meets the budget",
            "marker": {"size": 11, "color": LIGHT.grid, "symbol": "square"},
        }  # fmt: skip


def _line(content: Content, line: Line, style: Mark, **own: Json) -> Iterator[Mark]:
    """Yields a line that has a value; ``own`` comes on top."""
    if not np.isnan(line.values).all():
        yield {
            "type": "scatter", "mode": "lines", "name": line.label,
            "x": _numbers(content.scale * line.time_s), "y": _numbers(line.values),
            "line": style, **own,
        }  # fmt: skip


def _call_text(call: TracedCall) -> str:
    limit = "no limit" if call.limit_ms is None else f"limit {call.limit_ms:.4g} ms"
    lines = [f"{call.latency_ms:.4g} ms, {limit}, predicted {call.predicted_ms:.4g} ms"]
    if call.stage or call.stopped_by != "end":
        by = f"stage {call.stage + 1} ({', '.join(dict.fromkeys(call.route))})"
        lines.append(f"answered by {by}, stopped by: {call.stopped_by}")
    if call.units:
        lines.append(f"{sum(call.units.values()):.3g} of {len(call.units)} units ran")
    lines.append(f"in the mode {call.mode}" if call.mode else "")
    lines += [call.reason, f"failed: {call.failure}" if call.failure else ""]
    return hover(call.configuration, *filter(None, lines))


def _strip(content: Content) -> Iterator[Mark]:
    if content.strip is None:
        return
    colours = ramp(len(content.columns.configurations))
    edges = _numbers(content.scale * content.strip.edges_s)
    for index, row in enumerate(content.rows):
        shares, name = np.round(content.strip.shares[row], 3), _name(content, row)
        cells = _numbers(np.where(shares == 0, np.nan, shares))
        yield {
            "type": "heatmap", "xaxis": "x2", "yaxis": "y2", "name": name,
            "x": edges, "y": [index - 0.38, index + 0.38], "z": [cells],
            # A lone call among hundreds is to be seen.
            "colorscale": [[0, f"{colours[row]}40"], [1, f"{colours[row]}ff"]],
            "zmin": 0, "zmax": 1, "showscale": False, "hoverongaps": False,
            "text": [[name] * len(cells)],
            "hovertemplate": "<b>%{text}</b><br>%{z:.0%} of the time around"
            " %{x}<extra></extra>",
        }  # fmt: skip


def _exits(content: Content) -> Iterator[Mark]:
    if content.exits is None:
        return
    names, edges = content.columns.exits, _numbers(content.scale * content.exits.edges_s)
    pairs = zip(names, exit_colours(names), content.exits.shares, strict=True)
    for name, colour, shares in pairs:
        yield {
            "type": "scatter", "mode": "lines", "stackgroup": "exits", "name": name,
            "xaxis": "x3", "yaxis": "y3", "legend": "legend3", "x": edges,
            "y": _numbers(np.round(100 * np.append(shares, shares[-1]), 2)),
            "line": {"shape": "hv", "width": 0, "color": colour}, "fillcolor": colour,
            "hovertemplate": f"<b>{name}</b><br>%{{y:.1f}} % of the calls<extra></extra>",
        }  # fmt: skip


def _energy(content: Content, number: int) -> Iterator[Mark]:
    """Yields the lines of the panel of this number."""
    taken, granted = iter((LIGHT.every, LIGHT.own)), iter(("solid", "dash", "dot"))
    for line in () if content.energy is None else content.energy.lines:
        style: Mark = {"color": LIGHT.ink, "dash": next(granted)} if line.granted else {
            "color": next(taken)
        }  # fmt: skip
        yield from _line(
            content, line, {"width": 2, **style}, xaxis=f"x{number}", yaxis=f"y{number}",
            legend=f"legend{number}",
            zorder=0 if line.granted else 1, hovertemplate="%{y:.4g}<extra></extra>",
        )  # fmt: skip
