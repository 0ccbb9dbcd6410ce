"""One chart of the front: accuracy over a cost, with the steps of the best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections.marks import (
    MOST_LABELS,
    TEXT,
    colours_of,
    dot,
    hovering,
    legend_trace,
    reference_ring,
    series_line,
    series_symbol,
)
from skipc.tools.report.texts import chosen, exact, number, percent
from skipc.tools.web.chart import LEGEND, Chart, axis, label
from skipc.tools.web.html import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.tools.report.sections.cost_series import CostSeries
    from skipc.tools.report.sections.marks import Trace
    from skipc.tools.report.study import Study
    from skipc.tools.web.chart import Json

# Beyond this ratio of the largest cost to the smallest the axis is logarithmic.
_LEAST_LOGARITHMIC = 30


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
    room = max(0.14 * (max(values) - min(values)), 0.2)
    return Chart(
        f"front-{word}",
        f"Accuracy over {word}",
        caption + (" The axis is logarithmic." if wide else ""),
        traces,
        {
            "xaxis": _logarithmic(cost, costs) if wide else axis(cost, rangemode="tozero"),
            "yaxis": axis("accuracy, %", range=[min(values) - room, max(values) + 1.4 * room]),
            "showlegend": len(series) > 1,
            "legend": LEGEND,
        },
        440,
        _table(f"Accuracy over {word}", cost, series),
    )


def _logarithmic(title: str, values: Sequence[float]) -> dict[str, Json]:
    """Returns an axis with ticks at 1, 2 and 5; Plotly would leave out the powers of ten."""
    powers = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    return axis(
        title, type="log", tickmode="array", tickvals=ticks,
        ticktext=[f"{tick:.15g}" for tick in ticks],
    )  # fmt: skip


def _traces(study: Study, one: CostSeries, index: int) -> list[Trace]:
    x, y = list(one.costs), [exact(100 * e.metrics["accuracy"]) for e in one.entries]
    names = [entry.name for entry in one.entries]
    named = len(x) <= MOST_LABELS and not index
    points: Trace = {
        "type": "scatter", "mode": "markers+text" if named else "markers", "x": x, "y": y,
        "text": [label(name, 14) for name in names] if named else "", "textfont": TEXT,
        "textposition": _text_positions(x, y), "cliponaxis": False,
        "marker": dot(colours_of(study, names), symbol=series_symbol(index)),
        "name": label(one.label, 60), "showlegend": False, **hovering(one.hovers),
    }  # fmt: skip
    rings = [
        reference_ring(a, b)
        for a, b, name in zip(x, y, names, strict=True)
        if name == one.reference
    ]
    return [_steps(x, y, index), points, *rings, legend_trace(index, one.label)]


def _steps(x: Sequence[float], y: Sequence[float], index: int) -> Trace:
    """Returns the best accuracy that each cost buys: steps over what nothing dominates."""
    corners: list[tuple[float, float]] = []
    for cost, accuracy in zip(x, y, strict=True):
        if not corners or accuracy > corners[-1][1]:
            corners.append((cost, accuracy))
    corners.append((max(x), corners[-1][1]))
    return {
        "type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False,
        "x": [a for a, _ in corners], "y": [b for _, b in corners],
        "line": {**series_line(index), "shape": "hv"},
    }  # fmt: skip


def _text_positions(x: Sequence[float], y: Sequence[float]) -> list[str]:
    """Returns where each name goes: away from a neighbour of nearly the same accuracy."""
    wide, high = max(x) - min(x) or 1.0, max(y) - min(y) or 1.0
    places = []
    for i in range(len(x)):
        is_near = any(
            abs(y[i] - y[j]) < 0.08 * high and x[i] - x[j] < 0.35 * wide for j in range(i)
        )
        places.append("bottom right" if is_near else "top left")
    return places


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
            for entry, value in zip(one.entries, one.costs, strict=True)
        ),
    )
