"""Plain sessions of the portable graphs, in the same rounds as ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections.latency import ratio_chart
from skipc.tools.report.texts import NOTHING, number
from skipc.tools.trtbench.output import who_is_faster
from skipc.tools.web.html import Html, Table, element, joined
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.tools.report.measurement import Measurement, Point
    from skipc.tools.report.study import Study

_COLUMNS = (
    *("configuration", ">ours, ms", ">plain, ms", ">our load, ms", ">plain load, ms"),
    *(">our first call, ms", ">plain first call, ms", ">outputs differ by"),
)


def section(study: Study) -> Section | None:
    """Returns a chart and a table for each series with them; None where there are none."""
    parts: list[Html] = []
    for index, one in enumerate(study.measurements):
        points = sorted(one.points, key=lambda point: study.ranks[point.configuration])
        overs = [
            (point.configuration, point.plain.over_ours)
            for point in points
            if point.plain is not None and point.plain.over_ours is not None
        ]
        if overs:
            chart = ratio_chart(
                study,
                f"plain-{index}",
                f"{one.label}: latency of plain sessions over ours",
                "right of the line ours is faster.",
                "ours",
                {who: (each, who_is_faster(each)) for who, each in overs},
            )
            parts.append(chart.html())
        if any(point.plain is not None for point in points):
            parts.append(_table(one, points).html())
        if one.plain_not_run:
            said = f"{one.label}: not run: {short(one.plain_not_run, 400)}"
            parts.append(element("p", said, class_="note"))
    if not parts:
        return None
    return Section(
        "plain",
        "Plain sessions",
        "The same configurations as ONNX Runtime sessions of their portable graphs, by turns"
        " with ours. Every call finds the caches as another kind of call left them, so ours"
        " may take longer here than alone: compare what was measured together.",
        joined(*parts),
    )


def _table(one: Measurement, points: Sequence[Point]) -> Table:
    rows = []
    for point in points:
        plain = point.plain
        if plain is None:
            continue
        median_ms = None if plain.latency is None else plain.latency.median_ms
        times_ms = (
            *(point.median_ms, median_ms, point.load_ms, plain.load_ms),
            *(point.first_call_ms, plain.first_call_ms),
        )
        shown = (NOTHING if ms is None else number(ms, 4) for ms in times_ms)
        error = f"{plain.relative_error:.2g}"
        rows.append((short(point.configuration, 60), *shown, error))
    return Table(
        f"{one.label}: medians, loading and first calls. Outputs differ from our engine's by"
        " so much of their range, in the first case.",
        _COLUMNS,
        tuple(rows),
    )
