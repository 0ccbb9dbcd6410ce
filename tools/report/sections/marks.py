"""Marks that the charts have in common: points, symbols of the series, what hovering shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.report.texts import chosen, exact, number, percent, ratio
from skipc.tools.web.chart import LEGEND, axis, hover, hovering, row_chart
from skipc.tools.web.html import Table
from skipc.tools.web.palette import LIGHT, ramp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skipc.tools.report.measurement import Measurement, Point
    from skipc.tools.report.study import Study
    from skipc.tools.web.chart import Chart, Json, Trace

TEXT: dict[str, Json] = {"color": LIGHT.ink, "size": 12}
"""The font of a name or a number beside a point."""


def colours_of(study: Study, names: Iterable[str]) -> list[str]:
    """Returns the colour of each configuration on a light ground."""
    colours = ramp(len(study.ranks))
    return [colours[study.ranks[name]] for name in names]


def dot(colours: Sequence[str], size: int = 12, symbol: Json = "circle") -> Trace:
    """Returns the marker of configurations' points."""
    outline = {"width": 1, "color": LIGHT.ground}
    return {"size": size, "symbol": symbol, "color": list(colours), "line": outline}


def tick(size: int, colour: str = LIGHT.muted, width: float = 1.5) -> Trace:
    """Returns the marker of an upright stroke."""
    stroke = {"width": width, "color": colour}
    return {"symbol": "line-ns", "size": size, "color": colour, "line": stroke}


def measured_hover(study: Study, one: Measurement, point: Point) -> str:
    """Returns what is known of a configuration on one device."""
    entry, found = study.manifest.configuration(point.configuration), point.found
    lines = [f"accuracy {percent(entry.metrics['accuracy'])}"] if study.knows_accuracy else []
    if point.quantiles:
        told = (f"{label} {number(ms)}" for label, ms in point.quantiles.items())
        lines.append(f"{', '.join(told)} ms")
    if point.configuration == one.reference:
        lines.append("the reference")
    elif found is not None and found.over_reference is not None:
        lines.append(f"{ratio(found.over_reference)} of {one.reference}")
    if found is not None and found.energy is not None:
        mark = ", an estimate" if one.energy_is_estimated else ""
        lines.append(f"{number(found.energy.mean_mj)} mJ per call{mark}")
    return hover(point.configuration, one.label, *lines, chosen(entry))


def pattern(shape: str, colour: Json, size: int = 6, solidity: float = 0.45) -> Trace:
    """Returns what tells a bar without its colour; nothing for a full bar."""
    return {
        "shape": shape, "fillmode": "replace", "size": size, "solidity": solidity,
        "fgcolor": colour, "bgcolor": LIGHT.ground,
    } if shape else {}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """What is known of each row of a chart of bars: a column of its table, and a mark.

    Attributes:
        heading: What it is, in the table and the legend.
        cells: How it is said, for each row.
        sizes: How large it is, in the axis' unit; empty for what is in the table only.
        colour: Of its piece of each bar, on a light ground; empty for a stroke over the bars.
        shape: Plotly's pattern of the piece; empty for a full one.
    """

    heading: str
    cells: tuple[str, ...]
    sizes: tuple[float, ...] = ()
    colour: str = ""
    shape: str = ""


def bar_chart(
    name: str,
    title: str,
    caption: str,
    names: Sequence[str],
    length: str,
    columns: Sequence[Column],
    unit: str = "",
) -> Chart:
    """Returns a chart of stacked bars, a row for each configuration, and the same as a table.

    ``length`` is what the bars' length is, with its unit; ``unit`` stands behind the texts of
    cells where they stand alone.
    """
    traces: list[Trace] = []
    for each in columns:
        if not each.sizes:
            continue
        told = (f"{each.heading}: {cell}{unit}" for cell in each.cells)
        trace: Trace = {
            "name": each.heading, "x": [exact(size) for size in each.sizes],
            "y": list(range(len(names))), **hovering(map(hover, names, told)),
        }  # fmt: skip
        marker: Trace = {"color": each.colour, "pattern": pattern(each.shape, each.colour)}
        bar: Trace = {"type": "bar", "orientation": "h", "width": 0.62, "marker": marker}
        stroke = {"type": "scatter", "mode": "markers", "marker": tick(22, LIGHT.ink, 2)}
        traces.append(trace | (bar if each.colour else stroke))
    return row_chart(
        name, title, caption, traces, names, axis(length, rangemode="tozero"),
        Table(
            title,
            ("configuration", *(f">{each.heading}" for each in columns)),
            tuple(zip(names, *(each.cells for each in columns), strict=True)),
        ),
        barmode="stack", showlegend=True, legend=LEGEND,
    )  # fmt: skip
