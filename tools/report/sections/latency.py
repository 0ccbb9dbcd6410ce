"""How latencies are distributed, and their ratios to the most accurate's and to others'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import plural, short
from skipc.tools.report.measurement import Origin
from skipc.tools.report.sections.marks import TEXT, colours_of, dot, measured_hover, tick
from skipc.tools.report.texts import NOTHING, exact, number, ratio
from skipc.tools.trtbench.compare import doubts
from skipc.tools.trtbench.output import who_is_faster
from skipc.tools.web.chart import axis, hover, hovering, row_chart
from skipc.tools.web.html import Html, Table, element, joined, note
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from skipc.tools.report.measurement import Measurement, Point
    from skipc.tools.report.study import Found, Study
    from skipc.tools.trtbench.latency import RatioInterval
    from skipc.tools.trtbench.report import Measured, PlainCalls
    from skipc.tools.web.chart import Chart, Json, Trace

# The slowest call of all would leave no room for the others; the median has its dot.
_MOST_NUMBERED = 24
_NO_TICK = ("max", "median", "latency")


def section(study: Study) -> Section:
    """Returns a pair of charts for each series."""
    parts = []
    for found in study.measured(lambda point: point.median_ms):
        one = found.one
        parts.append(_distribution(study, found).html())
        ratios = {
            p.configuration: (over, over.verdict())
            for p, _ in found.points
            if p.found is not None and (over := p.found.over_reference) is not None
        }
        if ratios:
            chart = _ratios(
                study,
                f"ratios-{found.index}",
                f"{one.label}: latency over that of {short(one.reference, 40)}",
                "left of the line is faster. Another start of the program may differ by more.",
                one.reference,
                ratios,
            )
            parts.append(chart.html())
        parts.append(_warnings(one))
    return Section(
        "latency",
        "Latency",
        "Milliseconds of one call, as the files say. Single calls are not in them, so"
        " what is drawn are percentiles and medians of stretches, not a density.",
        joined(*parts),
    )


def _distribution(study: Study, found: Found[float]) -> Chart:
    one, points = found.one, [point for point, _ in found.points]
    names = [point.configuration for point in points]
    colours = colours_of(study, names)
    medians: Trace = {
        "type": "scatter", "mode": "markers", "marker": dot(colours, 13),
        "x": [exact(median_ms) for _, median_ms in found.points],
        "y": list(range(len(points))),
        **hovering(measured_hover(study, one, point) for point in points),
    }  # fmt: skip
    spreads = [
        trace
        for row, ((point, median_ms), colour) in enumerate(
            zip(found.points, colours, strict=True)
        )
        for trace in _spread(point, median_ms, row, colour)
    ]
    return row_chart(
        f"latency-{found.index}",
        f"{one.label}: how long a call takes",
        _caption(one, points),
        [*spreads, medians],
        names,
        axis("latency of a call, ms", rangemode="tozero"),
        _table(one, points),
    )


def _spread(point: Point, median_ms: float, row: int, colour: str) -> Iterator[Trace]:
    """Yields a line with ticks at the percentiles, and below it the stretches' medians."""
    ticks = [exact(ms) for label, ms in point.quantiles.items() if label not in _NO_TICK]
    marks: Trace = {"type": "scatter", "mode": "markers", "hoverinfo": "skip"}
    if ticks:
        span = [*ticks, exact(median_ms)]
        yield {
            **marks, "mode": "lines", "x": [min(span), max(span)], "y": [row, row],
            "line": {"width": 2, "color": LIGHT.muted},
        }  # fmt: skip
        yield {**marks, "x": ticks, "y": [row] * len(ticks), "marker": tick(12)}
    if point.found is not None and point.found.latency is not None:
        medians_ms = [exact(ms) for ms in point.found.latency.batch_medians_ms]
        if medians_ms:
            yield {
                **marks, "x": medians_ms, "y": [row + 0.28] * len(medians_ms),
                "marker": {"size": 5, "color": colour, "opacity": 0.55},
            }  # fmt: skip


def _caption(one: Measurement, points: list[Point]) -> str:
    if one.origin is Origin.FRONT:
        return (
            "One number for each configuration, from the front; who measured it is not known."
        )
    labels = [label for label in points[0].quantiles if label not in _NO_TICK]
    said = f"Dot: median. Line with ticks: {', '.join(labels)} of the calls."
    if one.report is None:
        return f"{said} {one.origin.value.capitalize()}, measured when they were built."
    timed = one.report.timed.values()
    if any(latency.batch_medians_ms for latency in timed):
        said += (
            " Small dots: the medians of up to 30 stretches of the run; where they spread, the"
            " machine was not steady."
        )
    slowest_ms = max(latency.max_ms for latency in timed)
    said += f" The slowest call, {number(slowest_ms)} ms, is in the table only."
    if one.report.plain:
        said += " Measured alternating with plain sessions: alone, a call may take less."
    return said


def _table(one: Measurement, points: list[Point]) -> Table:
    labels = list(dict.fromkeys(label for point in points for label in point.quantiles))
    return Table(
        f"{one.label}: latency in ms",
        ("configuration", ">calls", *(f">{label}" for label in labels), ">load, ms"),
        tuple(
            (
                point.configuration,
                str(point.runs or NOTHING),
                *(_number(point.quantiles.get(label)) for label in labels),
                _number(None if point.found is None else point.found.load_ms, 3),
            )
            for point in points
        ),
    )


def _number(value_ms: float | None, digits: int = 4) -> str:
    return NOTHING if value_ms is None else number(value_ms, digits)


def _warnings(one: Measurement) -> Html:
    warnings = () if one.report is None else doubts(one.report)
    if not warnings:
        return Html("")
    said = f"{one.label}: {plural(len(warnings), 'reason')} to doubt these numbers"
    return element(
        "details",
        element("summary", said, class_="warn"),
        element("ul", *(element("li", short(each, 300)) for each in warnings), class_="note"),
        class_="doubts",
    )


def plain_section(study: Study) -> Section:
    """Returns a chart and a table for each series with plain sessions, or why it has none."""
    parts: list[Html] = []
    series = {found.index: found for found in study.found(_with_plain)}
    for index, one in enumerate(study.measurements):
        if index in series:
            parts += _plain(study, series[index])
        if one.report is not None and one.report.plain_not_run:
            parts.append(note(f"{one.label}: not run: {short(one.report.plain_not_run, 400)}"))
    return Section(
        "plain",
        "Plain sessions",
        "The same configurations as ONNX Runtime sessions of their portable graphs,"
        " alternating with ours. Every call finds the caches as another kind of call left"
        " them, so ours may take longer here than alone: compare what was measured together.",
        joined(*parts),
    )


def _with_plain(entry: Measured) -> tuple[Measured, PlainCalls] | None:
    return None if entry.plain is None else (entry, entry.plain)


def _plain(study: Study, found: Found[tuple[Measured, PlainCalls]]) -> Iterator[Html]:
    label, pairs = found.one.label, [pair for _, pair in found.points]
    overs = {
        ours.name: (over, who_is_faster(over))
        for ours, plain in pairs
        if (over := plain.over_ours) is not None
    }
    if overs:
        yield _ratios(
            study,
            f"plain-{found.index}",
            f"{label}: latency of plain sessions over ours",
            "right of the line ours is faster.",
            "ours",
            overs,
        ).html()
    rows = []
    for ours, plain in pairs:
        medians = (
            None if one.latency is None else one.latency.median_ms for one in (ours, plain)
        )
        times = (
            *medians,
            ours.load_ms,
            plain.load_ms,
            ours.first_call_ms,
            plain.first_call_ms,
        )
        rows.append((ours.name, *map(_number, times), f"{plain.relative_error:.2g}"))
    yield Table(
        f"{label}: medians, loading and first calls. Outputs differ from our engine's by"
        " so much of their range, in the first case.",
        (
            *("configuration", ">ours, ms", ">plain, ms", ">our load, ms", ">plain load, ms"),
            *(">our first call, ms", ">plain first call, ms", ">outputs differ by"),
        ),
        tuple(rows),
    ).html()


def _ratios(
    study: Study,
    name: str,
    title: str,
    beside: str,
    of: str,
    found: Mapping[str, tuple[RatioInterval, str]],
) -> Chart:
    """Returns the ratios of a series, by configuration, and what each comes to.

    ``beside`` says what lies on which side of the line, ``of`` what is compared with.
    """
    intervals = [interval for interval, _ in found.values()]
    middle = [exact(each.ratio) for each in intervals]
    bars: Json = {
        "type": "data", "symmetric": False, "color": LIGHT.ink, "thickness": 1.5, "width": 5,
        "array": [exact((each.high or each.ratio) - each.ratio) for each in intervals],
        "arrayminus": [exact(each.ratio - (each.low or each.ratio)) for each in intervals],
    }  # fmt: skip
    trace: Trace = {
        "type": "scatter",
        "mode": "markers+text" if len(found) <= _MOST_NUMBERED else "markers",
        "x": middle, "y": list(range(len(found))), "error_x": bars,
        "text": [f"{value:.2f}" for value in middle], "textfont": TEXT,
        "textposition": "top center", "marker": dot(colours_of(study, found), 11),
        **hovering(hover(who, f"{ratio(each)} of {of}") for who, (each, _) in found.items()),
    }  # fmt: skip
    unity: Json = {
        "type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper",
        "line": {"color": LIGHT.ink, "width": 1, "dash": "dot"},
    }  # fmt: skip
    end = 1.05 * max(1.0, *(each.high or each.ratio for each in intervals))
    return row_chart(
        name,
        title,
        f"Bars are intervals of 95 % from this one run, often too narrow to see; {beside}",
        [trace],
        list(found),
        axis("ratio of latencies", range=[0, end]),
        Table(
            f"{title}: ratios",
            ("configuration", ">ratio (95 %)", "verdict"),
            tuple((who, ratio(each), verdict) for who, (each, verdict) in found.items()),
        ),
        shapes=[unity],
    )
