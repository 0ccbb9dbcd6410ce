"""Accuracy over what it costs: latency, energy, or MACs where nothing was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.report.sections.cost_series import energy_series, latency_series
from skipc.tools.report.sections.front_chart import front_chart
from skipc.tools.report.sections.work_chart import accuracy_over_work, latency_over_work
from skipc.tools.web.html import element, joined
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from skipc.tools.report.study import Study
    from skipc.tools.web.chart import Chart
    from skipc.tools.web.html import Part


def section(study: Study) -> Section:
    """Returns the front, once over latency and once over energy where that is known."""
    made = joined(*(chart.html() for chart in _charts(study)))
    return Section("front", "The front", _lead(study), made)


def _charts(study: Study) -> list[Chart]:
    latency, energy = latency_series(study), energy_series(study)
    if not study.knows_accuracy:
        return [latency_over_work(study, latency)] if latency else []
    charts = []
    if latency:
        charts.append(
            front_chart(
                study,
                "latency",
                "median latency, ms",
                "Up and to the left is better; the steps are the best accuracy that a time"
                " buys. Hover over a point for percentiles, interval and what it skips.",
                latency,
            )
        )
    if energy:
        said = "Energy is all that the meter covers, idle power included."
        if any(one.energy_is_estimated for one in study.measurements):
            said += " Estimates take a power for granted; nothing was metered."
        charts.append(front_chart(study, "energy", "energy per call, mJ", said, energy))
    return charts or [accuracy_over_work(study)]


def _lead(study: Study) -> Part:
    if not study.knows_accuracy:
        return joined(
            "The bundle does not know the accuracy of each configuration, so the front cannot"
            " be drawn. Give ",
            element("code", "accuracy"),
            " in the front's metrics, or let ",
            element("code", "skipc select"),
            " measure it.",
        )
    if not latency_series(study):
        return joined(
            "No call was timed: there are no results, engines or latencies of the front. ",
            element("code", "skipc finish"),
            " and ",
            element("code", "trtbench --json"),
            " measure.",
        )
    return (
        "What accuracy a call gets for its time. The ring marks the most accurate"
        " configuration, which ratios are over."
    )
