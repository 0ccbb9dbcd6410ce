"""How latencies are distributed, and how they compare with the most accurate's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import plural, short
from skipc.tools.report.measurement import Origin
from skipc.tools.report.sections.marks import (
    TEXT,
    colours_of,
    dot,
    hovering,
    measured_hover,
    tick,
)
from skipc.tools.report.texts import NOTHING, exact, number, ratio
from skipc.tools.web.chart import Chart, axis, hover, name_axis, rows_height_px
from skipc.tools.web.html import Html, Table, element, joined
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.tools.report.measurement import Measurement, Point
    from skipc.tools.report.sections.marks import Trace
    from skipc.tools.report.study import Study
    from skipc.tools.trtbench.latency import RatioInterval
    from skipc.tools.web.chart import Json


# The slowest call of all would leave no room for the others; the median has its dot.
_MOST_NUMBERED = 24
_NO_TICK = ("max", "median", "latency")


def section(study: Study) -> Section | None:
    """Returns a pair of charts for each series; None where nothing was timed."""
    parts = []
    for found in study.measured(lambda point: point.median_ms):
        one, timed = found.one, [point for point, _ in found.points]
        parts.append(_distribution(study, one, timed, f"latency-{found.index}").html())
        ratios = [(p.configuration, p.ratio) for p in timed if p.ratio is not None]
        if ratios:
            chart = ratio_chart(
                study,
                f"ratios-{found.index}",
                f"{one.label}: latency over that of {short(one.reference, 40)}",
                "left of the line is faster. Another start of the program may differ by more.",
                one.reference,
                {who: (each, each.verdict()) for who, each in ratios},
            )
            parts.append(chart.html())
        parts.append(_warnings(one))
    if not parts:
        return None
    return Section(
        "latency",
        "Latency",
        "Milliseconds of one call, as the files say. Single calls are not in them, so"
        " what is drawn are percentiles and medians of stretches, not a density.",
        joined(*parts),
    )


def _distribution(study: Study, one: Measurement, points: list[Point], name: str) -> Chart:
    names = [point.configuration for point in points]
    colours = colours_of(study, names)
    medians: Trace = {
        "type": "scatter", "mode": "markers", "marker": dot(colours, 13),
        "x": [exact(point.median_ms or 0.0) for point in points],
        "y": list(range(len(points))),
        **hovering(measured_hover(study, one, point) for point in points),
    }  # fmt: skip
    spreads = [
        trace
        for row, (point, colour) in enumerate(zip(points, colours, strict=True))
        for trace in _spread(point, row, colour)
    ]
    return Chart(
        name,
        f"{one.label}: how long a call takes",
        _caption(one, points),
        [*spreads, medians],
        {
            "xaxis": axis("latency of a call, ms", rangemode="tozero"),
            "yaxis": name_axis(names),
        },
        rows_height_px(len(names), 36),
        _table(one, points),
    )


def _spread(point: Point, row: int, colour: str) -> list[Trace]:
    """Returns a line with ticks at the percentiles, and below it the stretches' medians."""
    ticks = [exact(q.ms) for q in point.quantiles if q.label not in _NO_TICK]
    traces: list[Trace] = []
    if ticks:
        span = [*ticks, exact(point.median_ms or ticks[0])]
        traces.append({
            "type": "scatter", "mode": "lines", "x": [min(span), max(span)], "y": [row, row],
            "line": {"width": 2, "color": LIGHT.muted}, "hoverinfo": "skip",
        })  # fmt: skip
        traces.append({
            "type": "scatter", "mode": "markers", "x": ticks, "y": [row] * len(ticks),
            "hoverinfo": "skip", "marker": tick(12),
        })  # fmt: skip
    if point.batch_medians_ms:
        traces.append({
            "type": "scatter", "mode": "markers", "hoverinfo": "skip",
            "x": [exact(ms) for ms in point.batch_medians_ms],
            "y": [row + 0.28] * len(point.batch_medians_ms),
            "marker": {"size": 5, "color": colour, "opacity": 0.55},
        })  # fmt: skip
    return traces


def _caption(one: Measurement, points: list[Point]) -> str:
    if one.origin is Origin.FRONT:
        return (
            "One number for each configuration, from the front; who measured it is not known."
        )
    labels = [q.label for q in points[0].quantiles if q.label not in _NO_TICK]
    said = f"Dot: median. Line with ticks: {', '.join(labels)} of the calls."
    if one.origin is Origin.ENGINES:
        return f"{said} {one.origin.value.capitalize()}, measured when they were built."
    if any(point.batch_medians_ms for point in points):
        said += (
            " Small dots: the medians of up to 30 stretches of the run; where they spread, the"
            " machine was not steady."
        )
    slowest = max(
        (q.ms for p in points for q in p.quantiles if q.label == "max"), default=None
    )
    if slowest is not None:
        said += f" The slowest call, {number(slowest)} ms, is in the table only."
    if any(point.plain is not None for point in points):
        said += " Measured by turns with plain sessions: alone, a call may take less."
    return said


def _table(one: Measurement, points: list[Point]) -> Table:
    labels: list[str] = []
    for point in points:
        labels += [q.label for q in point.quantiles if q.label not in labels]
    rows = []
    for point in points:
        values = {q.label: q.ms for q in point.quantiles}
        runs = str(point.runs) if point.runs else NOTHING
        load = NOTHING if point.load_ms is None else number(point.load_ms)
        cells = (number(values[name], 4) if name in values else NOTHING for name in labels)
        rows.append((short(point.configuration, 60), runs, *cells, load))
    return Table(
        f"{one.label}: latency in ms",
        ("configuration", ">calls", *(f">{name}" for name in labels), ">load, ms"),
        tuple(rows),
    )


def _warnings(one: Measurement) -> Html:
    if not one.warnings:
        return Html("")
    items = (element("li", short(text, 300)) for text in one.warnings)
    said = f"{one.label}: {plural(len(one.warnings), 'reason')} to doubt these numbers"
    return element(
        "details",
        element("summary", said, class_="warn"),
        element("ul", *items, class_="note"),
        class_="doubts",
    )


UNITY: dict[str, Json] = {
    "type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper",
    "line": {"color": LIGHT.ink, "width": 1, "dash": "dot"},
}  # fmt: skip
"""A line where two latencies are the same."""


def ratio_chart(
    study: Study,
    name: str,
    title: str,
    beside: str,
    of: str,
    found: Mapping[str, tuple[RatioInterval, str]],
) -> Chart:
    """Returns the ratios of a series.

    Args:
        study: The study.
        name: The chart's name.
        title: The chart's title.
        beside: What lies on which side of the line, with what stands in the caption.
        of: What the latencies are compared with.
        found: By configuration its ratio and what that comes to; at least one.
    """
    names = list(found)
    intervals = [interval for interval, _ in found.values()]
    middle = [exact(each.ratio) for each in intervals]
    trace: dict[str, Json] = {
        "type": "scatter",
        "mode": "markers+text" if len(found) <= _MOST_NUMBERED else "markers",
        "x": middle, "y": list(range(len(found))),
        "error_x": _interval_bars(intervals),
        "text": [f"{value:.2f}" for value in middle], "textfont": TEXT,
        "textposition": "top center", "marker": dot(colours_of(study, names), 11),
        **hovering(hover(who, f"{ratio(each)} of {of}") for who, (each, _) in found.items()),
    }  # fmt: skip
    end = 1.05 * max(1.0, *(each.high or each.ratio for each in intervals))
    return Chart(
        name,
        title,
        f"Bars are intervals of 95 % from this one run, often too narrow to see; {beside}",
        [trace],
        {
            "xaxis": axis("ratio of latencies", range=[0, end]),
            "yaxis": name_axis(names),
            "shapes": [UNITY],
        },
        rows_height_px(len(names), 36),
        Table(
            f"{title}: ratios",
            ("configuration", ">ratio (95 %)", "verdict"),
            tuple(
                (short(who, 60), ratio(each), verdict)
                for who, (each, verdict) in found.items()
            ),
        ),
    )


def _interval_bars(found: Sequence[RatioInterval]) -> dict[str, Json]:
    """Returns Plotly's ``error_x`` for the intervals of these ratios; none where unknown."""
    return {
        "type": "data", "symmetric": False, "color": LIGHT.ink, "thickness": 1.5, "width": 5,
        "array": [exact((each.high or each.ratio) - each.ratio) for each in found],
        "arrayminus": [exact(each.ratio - (each.low or each.ratio)) for each in found],
    }  # fmt: skip
