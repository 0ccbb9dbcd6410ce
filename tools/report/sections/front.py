"""Accuracy over what it costs: latency, energy, or MACs where nothing was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from skipc.tools.report.sections.marks import colours_of, dot, measured_hover
from skipc.tools.report.texts import chosen, exact, number, percent
from skipc.tools.web.chart import LEGEND, Chart, axis, hover, hovering, label, log_axis
from skipc.tools.web.html import Table, element, joined
from skipc.tools.web.labels import along_steps, named
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.tools.report.measurement import Point
    from skipc.tools.report.study import Study
    from skipc.tools.web.chart import Json, Trace
    from skipc.tools.web.html import Part

# Beyond this ratio of the largest cost to the smallest the axis is logarithmic.
_LEAST_LOGARITHMIC = 30
# Told apart without colour, which is the configuration's.
_SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "hexagon"),
)
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_STEPS = (
    "Up and to the left is better; the steps are the best accuracy that a time buys. Point at"
    " one, or tap it, for percentiles, interval and what it skips."
)


class _Costs(NamedTuple):
    """What configurations cost in one series, above zero, and what hovering over each says."""

    label: str
    reference: str
    values: Mapping[str, float]
    hovers: Mapping[str, str]


class _Series(NamedTuple):
    """The points of a chart, from left to right; of one place the more accurate first."""

    label: str
    reference: str
    entries: list[ConfigurationEntry]
    x: list[float]
    y: list[float]
    hovers: list[str]


def section(study: Study) -> Section:
    """Returns the front, once over latency and once over energy where that is known."""
    latency = list(_measured_costs(study, lambda point: point.median_ms))
    made = joined(*(chart.html() for chart in _charts(study, latency)))
    return Section("front", "The front", _lead(study, bool(latency)), made)


def _lead(study: Study, is_timed: bool) -> Part:
    if not study.knows_accuracy:
        return joined(
            "The bundle does not know the accuracy of each configuration, so the front cannot"
            " be drawn. Give ",
            element("code", "accuracy"),
            " in the front's metrics, or let ",
            element("code", "skipc select"),
            " measure it.",
        )
    if not is_timed:
        return joined(
            "No call was timed: there are no results, engines or latencies of the front. ",
            element("code", "skipc finish"),
            " and ",
            element("code", "trtbench --json"),
            " measure.",
        )
    return (
        "What accuracy a call gets for its time. The ring marks the most accurate"
        " configuration, with which the others are compared below."
    )


def _charts(study: Study, latency: list[_Costs]) -> Iterator[Chart]:
    most = max(study.manifest.macs(entry) for entry in study.ordered)
    scale, word = (1e9, "billions") if most >= 1e9 else (1e6, "millions")
    macs = {entry.name: study.manifest.macs(entry) / scale for entry in study.ordered}
    work = f"MACs of one inference, {word}"
    if not study.knows_accuracy:
        if latency:
            yield _chart(
                study, "macs", "Latency over work",
                "On a straight line through the origin a configuration would be faster by as"
                " much as it computes less.",
                (work, "median latency, ms"),
                [_series(study, one, macs, one.values) for one in latency],
            )  # fmt: skip
        return
    accuracy = {e.name: exact(100 * e.metrics["accuracy"]) for e in study.ordered}
    energy = _energy_costs(study)
    said = "Energy is all that the meter covers, idle power included."
    if any(one.energy_is_estimated for one in study.measurements):
        said += " Estimates take a power for granted; nothing was metered."
    for name, cost, caption, costs in (
        ("latency", "median latency, ms", _STEPS, latency),
        ("energy", "energy per call, mJ", said, energy),
    ):
        series = [_series(study, one, one.values, accuracy) for one in costs]
        if series:
            title = f"Accuracy over {name}"
            yield _chart(study, name, title, caption, (cost, "accuracy, %"), series)
    if not latency and not energy:
        hovers = {
            e.name: hover(e.name, f"accuracy {percent(e.metrics['accuracy'])}", chosen(e))
            for e in study.ordered
        }
        counted = _Costs("", study.reference, macs, hovers)
        yield _chart(
            study, "macs", "Accuracy over work",
            "MACs are counted, not measured: how much faster a device is for them is not"
            " known.",
            (work, "accuracy, %"),
            [_series(study, counted, macs, accuracy)],
        )  # fmt: skip


def _measured_costs(
    study: Study, cost: Callable[[Point], float | None], estimated: str = ""
) -> Iterator[_Costs]:
    """Yields the series that have a cost; those of estimates are marked."""
    for found in study.measured(cost):
        one = found.one
        yield _Costs(
            one.label + (estimated if one.energy_is_estimated else ""),
            one.reference,
            {point.configuration: value for point, value in found.points},
            {p.configuration: measured_hover(study, one, p) for p, _ in found.points},
        )


def _energy_costs(study: Study) -> list[_Costs]:
    """Returns millijoules per call, of each series with a meter, else the front's own."""
    found = list(_measured_costs(study, _energy_mj, " (estimate)"))
    costs = {e.name: e.metrics.get("energy_mj", 0.0) for e in study.ordered}
    if found or min(costs.values()) <= 0:
        return found
    hovers = {
        e.name: hover(
            e.name,
            f"accuracy {percent(e.metrics.get('accuracy'))}",
            f"{number(costs[e.name])} mJ per call, as the front says",
            chosen(e),
        )
        for e in study.ordered
    }
    return [_Costs("the front's energy_mj", study.reference, costs, hovers)]


def _energy_mj(point: Point) -> float | None:
    energy = None if point.found is None else point.found.energy
    return None if energy is None else energy.mean_mj


def _series(
    study: Study, costs: _Costs, x: Mapping[str, float], y: Mapping[str, float]
) -> _Series:
    entries = [entry for entry in study.ordered if entry.name in costs.values]
    entries.sort(key=lambda entry: x[entry.name])
    return _Series(
        costs.label,
        costs.reference,
        entries,
        [exact(x[entry.name]) for entry in entries],
        [exact(y[entry.name]) for entry in entries],
        [costs.hovers[entry.name] for entry in entries],
    )


def _chart(
    study: Study,
    name: str,
    title: str,
    caption: str,
    axes: tuple[str, str],
    series: Sequence[_Series],
) -> Chart:
    """Returns a chart of points: steps over what nothing dominates, or lines, through them."""
    across, upright = axes
    steps = study.knows_accuracy
    x, y = [x for one in series for x in one.x], [y for one in series for y in one.y]
    wide = steps and min(x) > 0 and max(x) / min(x) > _LEAST_LOGARITHMIC
    margin = max(0.14 * (max(y) - min(y)), 0.2)
    logarithm = math.log10 if wide else float
    places = [[(logarithm(a), b) for a, b in zip(one.x, one.y, strict=True)] for one in series]
    lines = [point for one in places if steps for point in along_steps(_best(one))]
    others = [*(place for one in places[1:] for place in one), *lines]
    return Chart(
        f"front-{name}",
        title,
        caption + (" The axis is logarithmic." if wide else ""),
        [trace for i, one in enumerate(series) for trace in _traces(study, one, i, steps)],
        {
            "xaxis": log_axis(across, min(x), max(x))
            if wide
            else axis(across, rangemode="tozero"),
            "yaxis": axis(upright, range=[min(y) - margin, max(y) + 1.4 * margin])
            if steps
            else axis(upright, rangemode="tozero"),
            "showlegend": len(series) > 1,
            "legend": LEGEND,
            **named([entry.name for entry in series[0].entries], places[0], others),
        },
        440,
        Table(
            title,
            ("configuration", "series", f">{upright}", f">{across}", "choices"),
            tuple(
                (entry.name, one.label,
                 percent(entry.metrics["accuracy"]) if steps else number(b, 4),
                 number(a, 4), chosen(entry))
                for one in series
                for entry, a, b in zip(one.entries, one.x, one.y, strict=True)
            ),
        ),
    )  # fmt: skip


def _traces(study: Study, one: _Series, index: int, steps: bool) -> Iterator[Trace]:
    """Yields a series' line, its points, the ring around the reference, the legend's entry."""
    corners = list(zip(one.x, one.y, strict=True))
    line: dict[str, Json] = {
        "width": 1.5, "color": LIGHT.muted, "dash": _DASHES[index % len(_DASHES)],
    }  # fmt: skip
    if steps:
        corners, line = _best(corners), {**line, "shape": "hv"}
    symbol, name = _SYMBOLS[index % len(_SYMBOLS)], label(one.label, 60)
    scatter: Trace = {"type": "scatter", "showlegend": False, "hoverinfo": "skip"}
    yield {
        **scatter, "mode": "lines", "line": line,
        "x": [a for a, _ in corners], "y": [b for _, b in corners],
    }  # fmt: skip
    colours = colours_of(study, [entry.name for entry in one.entries])
    yield {
        "type": "scatter", "mode": "markers", "x": one.x, "y": one.y, "name": name,
        "cliponaxis": False, "showlegend": False, **hovering(one.hovers),
        "marker": dot(colours, symbol=symbol),
    }  # fmt: skip
    for a, b, entry in zip(one.x, one.y, one.entries, strict=True):
        if entry.name == one.reference:
            stroke = {"width": 1.5, "color": LIGHT.ink}
            yield {
                **scatter, "mode": "markers", "x": [a], "y": [b], "cliponaxis": False,
                "marker": {"size": 21, "symbol": "circle-open", "line": stroke,
                           "color": LIGHT.ink},
            }  # fmt: skip
    yield {
        **scatter, "mode": "lines+markers", "x": [None], "y": [None], "name": name,
        "line": line, "showlegend": True,
        "marker": {"size": 10, "symbol": symbol, "color": LIGHT.muted},
    }  # fmt: skip


def _best(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the corners of steps over what nothing dominates, for points by rising cost."""
    corners: list[tuple[float, float]] = []
    for cost, accuracy in places:
        if not corners or accuracy > corners[-1][1]:
            corners.append((cost, accuracy))
    return [*corners, (places[-1][0], corners[-1][1])]
