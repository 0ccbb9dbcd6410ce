"""The same configurations run by other means, in the same rounds as ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections.baseline_charts import OURS, Dot, medians_chart, ratios_chart
from skipc.tools.report.texts import NOTHING, number
from skipc.tools.trtbench.results.interval import paired_ratio
from skipc.tools.web.html import Html, Table, details, element, joined
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.tools.report.measurement import Measurement, Point
    from skipc.tools.report.study import Study
    from skipc.tools.trtbench.baselines.found import BaselineFound


def section(study: Study) -> Section | None:
    """Returns charts for each series with baselines; None where there are none."""
    parts: list[Html] = []
    for index, one in enumerate(study.measurements):
        if one.baselines:
            parts += _of_series(study, one, index)
    if not parts:
        return None
    return Section(
        "baselines",
        "Baselines",
        "The same configurations run by other means, by turns with ours. Every call finds the"
        " caches as another kind of call left them, so ours may take longer here than"
        " alone: compare what was measured together.",
        joined(*parts),
    )


def _of_series(study: Study, one: Measurement, index: int) -> list[Html]:
    points = sorted(one.points, key=lambda point: study.ranks[point.configuration])
    dots = {OURS: _ours(points)}
    dots |= {each.name: _dots(points, each) for each in one.baselines}
    dots = {means: found for means, found in dots.items() if found}
    parts = []
    if len(dots) > 1:
        names = [point.configuration for point in points]
        parts = [
            medians_chart(study, one.label, names, dots, f"baselines-{index}").html(),
            ratios_chart(study, one.label, names, dots, f"baseline-ratios-{index}").html(),
        ]
    if any(each.configurations for each in one.baselines):
        parts.append(_loading(one, points))
    return [*parts, *_not_run(one)]


def _ours(points: Sequence[Point]) -> list[Dot]:
    return [
        Dot(point.configuration, row, point.median_ms, None)
        for row, point in enumerate(points)
        if point.median_ms is not None
    ]


def _dots(points: Sequence[Point], baseline: BaselineFound) -> list[Dot]:
    calls = {each.configuration: each for each in baseline.configurations}
    found = []
    for row, point in enumerate(points):
        latency = calls[point.configuration].latency if calls else None
        if latency is not None:
            over = paired_ratio(latency.batch_medians_ms, point.batch_medians_ms)
            found.append(Dot(point.configuration, row, latency.median_ms, over))
    return found


def _loading(one: Measurement, points: Sequence[Point]) -> Html:
    rows = []
    for point in points:
        ours = (_ms(point.load_ms), _ms(point.first_call_ms), NOTHING)
        rows.append((short(point.configuration, 60), OURS, *ours))
        for baseline in one.baselines:
            rows += [
                (short(point.configuration, 60), baseline.name, _ms(calls.load_ms),
                 _ms(calls.first_call_ms), f"{calls.relative_error:.2g}")
                for calls in baseline.configurations
                if calls.configuration == point.configuration
            ]  # fmt: skip
    table = Table(
        f"{one.label}: ours and the baselines'. A load of {NOTHING} came with that of another"
        " configuration; for PyTorch a load is the reading of the checkpoint. Outputs differ"
        " from our engine's by so much of their range, in the first case.",
        ("configuration", "by", ">load, ms", ">first call, ms", ">outputs differ by"),
        tuple(rows),
    )
    return details("Loading, first calls, and how far outputs differ", table.html())


def _ms(value_ms: float | None) -> str:
    return NOTHING if value_ms is None else number(value_ms, 4)


def _not_run(one: Measurement) -> list[Html]:
    items = [
        element("li", f"{each.name}: {short(each.not_run, 400)}")
        for each in one.baselines
        if each.not_run
    ]
    if not items:
        return []
    said = element("p", f"{one.label}: not run, and why:", class_="note")
    return [joined(said, element("ul", *items, class_="note"))]
