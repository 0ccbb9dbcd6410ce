"""What is drawn over MACs, where accuracy or latency is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections.cost_series import CostSeries
from skipc.tools.report.sections.marks import (
    MOST_LABELS,
    TEXT,
    colours_of,
    dot,
    hovering,
    legend_trace,
    series_line,
    series_symbol,
)
from skipc.tools.report.texts import chosen, exact, number, percent
from skipc.tools.web.chart import LEGEND, Chart, axis, hover, label
from skipc.tools.web.html import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.tools.report.study import Study
    from skipc.tools.web.chart import Json


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
    traces = []
    for index, one in enumerate(series):
        names = [entry.name for entry in one.entries]
        named = len(names) <= MOST_LABELS and not index
        traces.append({
            "type": "scatter", "mode": "lines+markers+text" if named else "lines+markers",
            "x": [exact(study.manifest.macs(e) / scale) for e in one.entries],
            "y": list(one.costs),
            "text": [label(name, 14) for name in names] if named else "",
            "textposition": "top left", "textfont": TEXT, "cliponaxis": False,
            "line": series_line(index), "showlegend": False, **hovering(one.hovers),
            "marker": dot(colours_of(study, names), symbol=series_symbol(index)),
        })  # fmt: skip
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
        for entry, value in zip(one.entries, one.costs, strict=True)
    )
    return Chart(
        "front-macs",
        title,
        caption,
        traces,
        {
            "xaxis": axis(f"MACs of one inference, {word}", rangemode="tozero"),
            "yaxis": vertical,
            "showlegend": len(series) > 1,
            "legend": LEGEND,
        },
        400,
        Table(title, ("configuration", "series", ">MACs", f">{heading}"), rows),
    )
