"""The picture of a trace as a page, by Plotly, which needs no network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.bundle.files import write_whole
from skipc.tools.trace.content import content_of
from skipc.tools.trace.picture import time_unit
from skipc.tools.trace.summary import HEADINGS, cells, sentences
from skipc.tools.web.chart import LEGEND, Chart, Interaction, axis, hover, label, log_axis
from skipc.tools.web.html import Table, element, joined, keyed
from skipc.tools.web.page import Page, Section
from skipc.tools.web.palette import LIGHT, ramp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from skipc.runtime.call.trace import Trace, TracedCall
    from skipc.tools.trace.columns import Floats
    from skipc.tools.trace.content import Content
    from skipc.tools.trace.summary import Summary
    from skipc.tools.web.chart import Json

    Mark = dict[str, Json]

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
    ranks = {each.name: rank for rank, each in enumerate(content.columns.configurations)}
    rows = (cells(one) for one in summary.configurations)
    told = tuple(
        (keyed(name, ranks[one.configuration]), *numbers)
        for one, (name, *numbers) in zip(summary.configurations, rows, strict=True)
    )
    sections = [
        Section(
            "over-time", "Over time", " ".join(sentences(summary)), _chart(content).html()
        ),
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


def _chart(content: Content) -> Chart:
    """Returns the panels, one above the other over one axis of time."""
    heights = [3.0, max(0.22 * len(content.rows), 0.5)]
    if content.energy is not None:
        heights.append(1.6)
    domains = list(_domains(heights))
    scale, unit = time_unit(content)
    layout: dict[str, Json] = {
        "margin": {"l": 20, "r": 20, "t": 20, "b": 50},
        "showlegend": True,
        "legend": LEGEND | {"y": 1.0},
        "shapes": list(_infeasible(content)),
    }
    last = len(domains)
    uprights = (_latency_axis, _strip_axis, _energy_axis)
    for number, (domain, upright) in enumerate(zip(domains, uprights, strict=False), 1):
        is_last, key = number == last, "" if number == 1 else str(number)
        layout[f"xaxis{key}"] = axis(
            f"time since the engine was opened ({unit})" if is_last else "",
            anchor=f"y{key}", showticklabels=is_last, showgrid=True,
            range=[scale * at for at in content.range_s],
            **({} if is_last else {"matches": f"x{last}"}),
        )  # fmt: skip
        layout[f"yaxis{key}"] = {**upright(content), "anchor": f"x{key}", "domain": domain}
    if content.energy is not None:
        layout["legend2"] = LEGEND | {"y": domains[-1][1]}
    return Chart(
        "calls",
        f"{'Latency' if content.energy is None else 'Latency, energy'} and configuration",
        " ".join((
            *content.notes,
            "Drag to zoom, double-click to go back; point at a call to see why it ran.",
        )),
        [*_latency(content), *_strip(content), *_energy(content)],
        layout,
        int(_PX * sum(heights)) + 140,
        None,
        Interaction.ZOOM,
    )  # fmt: skip


def _domains(heights: Sequence[float]) -> Iterator[list[float]]:
    """Yields where each panel begins and ends, as shares of the figure's height, top first."""
    gap, top = _SPACING / sum(heights), 1.0
    for height in heights:
        bottom = top - (1 - gap * (len(heights) - 1)) * height / sum(heights)
        yield [max(bottom, 0.0), top]
        top = bottom - gap


def _numbers(values: Floats) -> list[float | None]:
    """Returns what JSON takes, with digits enough for any zoom; None where there is none."""
    return [None if math.isnan(v) else float(f"{v:.9g}") for v in values.tolist()]


def _latency_axis(content: Content) -> Mark:
    low, high = content.range_ms
    if not content.logarithmic:
        return axis("latency (ms)", range=[low, high])
    return log_axis("latency (ms)", low, high, range=[math.log10(low), math.log10(high)])


def _latency(content: Content) -> Iterator[Mark]:
    columns, (scale, _) = content.columns, time_unit(content)
    colours = ramp(len(columns.configurations))
    for failed in (False, True):
        for row in content.rows:
            own = content.drawn_of(row, failed)
            if not len(own):
                continue
            name = label(columns.configurations[row].name)
            mark: Mark = {"size": 5, "color": colours[row]}
            if failed:
                stroke = {"width": 2, "color": LIGHT.alarm}
                mark = {"size": 9, "symbol": "x-thin", "line": stroke}
            yield {
                "type": "scatter", "mode": "markers", "marker": mark,
                "name": f"{name}, failed" if failed else name, "zorder": 2 if failed else 0,
                "x": _numbers(scale * columns.end_s[own]),
                "y": _numbers(columns.latency_ms[own]),
                "text": [_call_text(columns.calls[i]) for i in own],
                "hovertemplate": "%{text}<extra></extra>",
            }  # fmt: skip
    lines = (
        ("prediction", content.predictions, {"color": LIGHT.muted, "width": 1}, -1),
        ("limit", content.limit, {"color": LIGHT.ink, "width": 2, "shape": "hv"}, 0),
    )
    for name, (x, y), line, order in lines:
        if not np.isnan(y).all():
            yield {
                "type": "scatter", "mode": "lines", "name": name, "hoverinfo": "skip",
                "x": _numbers(scale * x), "y": _numbers(y), "line": line, "zorder": order,
            }  # fmt: skip
    if any(_infeasible(content)):
        yield {
            "type": "scatter", "mode": "markers", "x": [None], "y": [None],
            "name": "nothing meets the budget",
            "marker": {"size": 11, "color": LIGHT.grid, "symbol": "square"},
        }  # fmt: skip


def _infeasible(content: Content) -> Iterator[Mark]:
    """Yields the grey ground of the latency panel."""
    scale, _ = time_unit(content)
    for first_s, last_s in [] if content.strip is None else content.strip.infeasible_spans_s:
        yield {
            "type": "rect", "xref": "x", "yref": "y domain", "layer": "below",
            "x0": scale * first_s, "x1": scale * last_s, "y0": 0, "y1": 1,
            "fillcolor": LIGHT.grid, "line": {"width": 0},
        }  # fmt: skip


def _call_text(call: TracedCall) -> str:
    limit = "no limit" if call.limit_ms is None else f"limit {call.limit_ms:.4g} ms"
    lines = [f"{call.latency_ms:.4g} ms, {limit}, predicted {call.predicted_ms:.4g} ms"]
    lines += [call.reason, f"failed: {call.failure}" if call.failure else ""]
    return hover(call.configuration, *filter(None, lines))


def _names(content: Content) -> list[str]:
    return [label(content.columns.configurations[row].name) for row in content.rows]


def _strip_axis(content: Content) -> Mark:
    names = _names(content)
    return axis(
        "", tickmode="array", tickvals=list(range(len(names))), ticktext=names,
        range=[max(len(names), 1) - 0.5, -0.5], showgrid=False,
    )  # fmt: skip


def _strip(content: Content) -> Iterator[Mark]:
    strip, (scale, _) = content.strip, time_unit(content)
    if strip is None:
        return
    colours = ramp(len(content.columns.configurations))
    edges = _numbers(scale * strip.edges_s)
    for index, (row, name) in enumerate(zip(content.rows, _names(content), strict=True)):
        shares = np.round(strip.shares[row], 3)
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


def _energy_axis(content: Content) -> Mark:
    panel = content.energy
    return {} if panel is None else axis(panel.axis, range=[0, panel.top])


def _energy(content: Content) -> Iterator[Mark]:
    panel, (scale, _) = content.energy, time_unit(content)
    if panel is None:
        return
    taken = iter((LIGHT.every, LIGHT.own))
    granted = iter(("solid", "dash", "dot"))
    for line in panel.lines:
        style: Mark = {"width": 2, "shape": "hv" if line.stepped else "linear"}
        if line.granted:
            style |= {"color": LIGHT.ink, "dash": next(granted)}
        else:
            style |= {"color": next(taken)}
        yield {
            "type": "scatter", "mode": "lines", "xaxis": "x3", "yaxis": "y3",
            "name": line.label if line.granted else f"{line.label}, mean of {panel.window}",
            "x": _numbers(scale * line.time_s),
            "y": _numbers(np.minimum(line.values, 10 * panel.top)),
            "line": style, "zorder": 0 if line.granted else 1, "legend": "legend2",
            "hovertemplate": "%{y:.4g}<extra></extra>",
        }  # fmt: skip
