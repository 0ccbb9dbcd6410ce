"""Accuracy over what it costs: latency, energy, or MACs where nothing was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections.marks import (
    colours_of,
    dot,
    hovering,
    legend_trace,
    measured_hover,
    reference_ring,
    series_line,
    series_symbol,
)
from skipc.tools.report.texts import chosen, exact, number, percent
from skipc.tools.web.chart import LEGEND, Chart, axis, hover, label, log_axis
from skipc.tools.web.html import Table, element, joined
from skipc.tools.web.labels import along_steps, named
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.tools.report.measurement import Point
    from skipc.tools.report.sections.marks import Trace
    from skipc.tools.report.study import Study
    from skipc.tools.web.chart import Json
    from skipc.tools.web.html import Part

# Beyond this ratio of the largest cost to the smallest the axis is logarithmic.
_LEAST_LOGARITHMIC = 30


@dataclass(frozen=True, slots=True)
class CostSeries:
    """Configurations with what each costs.

    Attributes:
        label: The series' name.
        reference: The configuration that ratios are over.
        entries: The configurations, the cheapest first.
        costs: What each costs, above zero.
        hovers: What hovering over each shows.
    """

    label: str
    reference: str
    entries: tuple[ConfigurationEntry, ...]
    costs: tuple[float, ...]
    hovers: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[ConfigurationEntry, float]]:
        """Each configuration with its cost."""
        return list(zip(self.entries, self.costs, strict=True))


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
                " buys. Point at one, or tap it, for percentiles, interval and what it skips.",
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


def front_chart(
    study: Study, word: str, cost: str, caption: str, series: Sequence[CostSeries]
) -> Chart:
    """Returns the chart of accuracy over a cost.

    Args:
        study: A study that knows accuracies.
        word: What the cost is: ``latency``, ``energy``.
        cost: The axis' title, with the unit.
        caption: What to see.
        series: At least one.
    """
    traces = [trace for i, one in enumerate(series) for trace in _traces(study, one, i)]
    costs = [value for one in series for value in one.costs]
    wide = max(costs) / min(costs) > _LEAST_LOGARITHMIC
    values = [100 * e.metrics["accuracy"] for one in series for e in one.entries]
    margin = max(0.14 * (max(values) - min(values)), 0.2)
    logarithm = math.log10 if wide else float
    places = [
        [(logarithm(c), 100 * e.metrics["accuracy"]) for e, c in one.pairs] for one in series
    ]
    lines = [point for one in places for point in along_steps(_best(one))]
    return Chart(
        f"front-{word}",
        f"Accuracy over {word}",
        caption + (" The axis is logarithmic." if wide else ""),
        traces,
        {
            "xaxis": log_axis(cost, min(costs), max(costs))
            if wide
            else axis(cost, rangemode="tozero"),
            "yaxis": axis(
                "accuracy, %", range=[min(values) - margin, max(values) + 1.4 * margin]
            ),
            **_legend_and_names(series, places, lines),
        },
        440,
        _table(f"Accuracy over {word}", cost, series),
    )


def _traces(study: Study, one: CostSeries, index: int) -> list[Trace]:
    x, y = list(one.costs), [exact(100 * e.metrics["accuracy"]) for e in one.entries]
    points = {**_points(study, one, index, x, y), "name": label(one.label, 60)}
    rings = [
        reference_ring(a, b)
        for a, b, entry in zip(x, y, one.entries, strict=True)
        if entry.name == one.reference
    ]
    return [_steps(x, y, index), points, *rings, legend_trace(index, one.label)]


def _points(
    study: Study, one: CostSeries, index: int, x: Sequence[float], y: Sequence[float]
) -> Trace:
    colours = colours_of(study, [entry.name for entry in one.entries])
    return {
        "type": "scatter", "mode": "markers", "x": list(x), "y": list(y),
        "cliponaxis": False, "showlegend": False, **hovering(one.hovers),
        "marker": dot(colours, symbol=series_symbol(index)),
    }  # fmt: skip


def _legend_and_names(
    series: Sequence[CostSeries],
    places: Sequence[Sequence[tuple[float, float]]],
    lines: Sequence[tuple[float, float]],
) -> dict[str, Json]:
    """Returns the part of a layout that has the legend and the first series' names."""
    others = [place for one in places[1:] for place in one]
    return {
        "showlegend": len(series) > 1,
        "legend": LEGEND,
        **named([e.name for e in series[0].entries], places[0], [*others, *lines]),
    }


def _steps(x: Sequence[float], y: Sequence[float], index: int) -> Trace:
    """Returns the best accuracy that each cost buys: steps over what nothing dominates."""
    corners = _best(list(zip(x, y, strict=True)))
    return {
        "type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False,
        "x": [a for a, _ in corners], "y": [b for _, b in corners],
        "line": {**series_line(index), "shape": "hv"},
    }  # fmt: skip


def _best(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the corners of those steps, for points by rising cost."""
    corners: list[tuple[float, float]] = []
    for cost, accuracy in places:
        if not corners or accuracy > corners[-1][1]:
            corners.append((cost, accuracy))
    return [*corners, (places[-1][0], corners[-1][1])]


def _table(title: str, cost: str, series: Sequence[CostSeries]) -> Table:
    return Table(
        title,
        ("configuration", "series", ">accuracy", f">{cost}", "choices"),
        tuple(
            (
                short(entry.name, 60),
                short(one.label, 60),
                percent(entry.metrics["accuracy"]),
                number(value, 4),
                chosen(entry),
            )
            for one in series
            for entry, value in one.pairs
        ),
    )


def latency_over_work(study: Study, latency: Sequence[CostSeries]) -> Chart:
    """Returns latency over MACs, for a family whose accuracies are not known."""
    return _chart(
        study,
        "Latency over work",
        "On a straight line through the origin a configuration would be faster by as much as"
        " it computes less.",
        latency,
        axis("median latency, ms", rangemode="tozero"),
    )


def accuracy_over_work(study: Study) -> Chart:
    """Returns accuracy over MACs, for a family that was not timed."""
    entries = study.ordered
    series = CostSeries(
        "",
        study.reference,
        entries,
        tuple(exact(100 * entry.metrics["accuracy"]) for entry in entries),
        tuple(
            hover(e.name, f"accuracy {percent(e.metrics['accuracy'])}", chosen(e))
            for e in entries
        ),
    )
    return _chart(
        study,
        "Accuracy over work",
        "MACs are counted, not measured: how much faster a device is for them is not known.",
        [series],
        axis("accuracy, %"),
    )


def _chart(
    study: Study,
    title: str,
    caption: str,
    series: Sequence[CostSeries],
    vertical: Mapping[str, Json],
) -> Chart:
    most = max(study.manifest.macs(entry) for entry in study.ordered)
    scale, word = (1e9, "billions") if most >= 1e9 else (1e6, "millions")
    places = [
        [(exact(study.manifest.macs(e) / scale), cost) for e, cost in one.pairs]
        for one in series
    ]
    traces: list[Trace] = [
        {
            **_points(study, one, index, [x for x, _ in places[index]], one.costs),
            "mode": "lines+markers",
            "line": series_line(index),
        }
        for index, one in enumerate(series)
    ]
    if len(series) > 1:
        traces += [legend_trace(index, one.label) for index, one in enumerate(series)]
    heading = "accuracy, %" if study.knows_accuracy else "median latency, ms"
    rows = tuple(
        (
            short(entry.name, 60),
            short(one.label, 60),
            number(study.manifest.macs(entry), 4),
            number(value, 4),
        )
        for one in series
        for entry, value in one.pairs
    )
    return Chart(
        "front-macs",
        title,
        caption,
        traces,
        {
            "xaxis": axis(f"MACs of one inference, {word}", rangemode="tozero"),
            "yaxis": vertical,
            **_legend_and_names(series, places, ()),
        },
        400,
        Table(title, ("configuration", "series", ">MACs", f">{heading}"), rows),
    )


def latency_series(study: Study) -> tuple[CostSeries, ...]:
    """Returns median latencies in milliseconds, of each measurement that timed calls."""
    return _all_series(study, lambda point: point.median_ms, "")


def energy_series(study: Study) -> tuple[CostSeries, ...]:
    """Returns millijoules per call, of each measurement with a meter, else the front's own."""
    found = _all_series(
        study,
        lambda point: None if point.energy is None else point.energy.mean_mj,
        " (estimate)",
    )
    costs = {e.name: e.metrics.get("energy_mj", 0.0) for e in study.ordered}
    if found or min(costs.values()) <= 0:
        return found
    hovers = {e.name: _front_hover(e) for e in study.ordered}
    return (_series(study, "the front's energy_mj", study.reference, costs, hovers),)


def _all_series(
    study: Study, cost: Callable[[Point], float | None], estimated: str
) -> tuple[CostSeries, ...]:
    """Returns the series that have a cost; those of estimates are marked."""
    return tuple(
        _series(
            study,
            found.one.label + (estimated if found.one.energy_is_estimated else ""),
            found.one.reference,
            {point.configuration: value for point, value in found.points},
            {p.configuration: measured_hover(study, found.one, p) for p, _ in found.points},
        )
        for found in study.measured(cost)
    )


def _series(
    study: Study,
    label: str,
    reference: str,
    costs: Mapping[str, float],
    hovers: Mapping[str, str],
) -> CostSeries:
    entries = [entry for entry in study.ordered if entry.name in costs]
    # Of equal costs the more accurate first.
    entries.sort(key=lambda entry: (costs[entry.name], study.ranks[entry.name]))
    return CostSeries(
        label,
        reference,
        tuple(entries),
        tuple(exact(costs[entry.name]) for entry in entries),
        tuple(hovers[entry.name] for entry in entries),
    )


def _front_hover(entry: ConfigurationEntry) -> str:
    return hover(
        entry.name,
        f"accuracy {percent(entry.metrics.get('accuracy'))}",
        f"{number(entry.metrics['energy_mj'])} mJ per call, as the front says",
        chosen(entry),
    )
