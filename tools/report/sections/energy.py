"""Energy per call, with the windows that it was measured in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections.marks import colours_of, hovering, tick
from skipc.tools.report.texts import NOTHING, exact, number
from skipc.tools.web.chart import Chart, axis, hover, name_axis, rows_height_px
from skipc.tools.web.html import Table, joined
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from skipc.tools.report.sections.marks import Trace
    from skipc.tools.report.study import Found, Study
    from skipc.tools.trtbench.report import Energy
    from skipc.tools.web.chart import Json


def section(study: Study) -> Section | None:
    """Returns a chart for each series with energy; None where there is none."""
    charts = [_chart(study, found).html() for found in study.measured(lambda p: p.energy)]
    if not charts:
        return None
    return Section(
        "energy",
        "Energy",
        "Millijoules of one call: all that the meter covers, idle power included.",
        joined(*charts),
    )


def _chart(study: Study, series: Found[Energy]) -> Chart:
    one, found = series.one, series.points
    names = [point.configuration for point, _ in found]
    colours = colours_of(study, names)
    hatched: Json = {
        "shape": "/", "fillmode": "replace", "fgcolor": colours, "bgcolor": LIGHT.ground,
        "size": 7, "solidity": 0.4,
    }  # fmt: skip
    bars: Trace = {
        "type": "bar", "orientation": "h", "width": 0.5,
        "x": [exact(energy.mean_mj) for _, energy in found], "y": list(range(len(names))),
        "marker": {"color": colours, "pattern": hatched if one.energy_is_estimated else {}},
        **hovering(hover(point.configuration, _told(energy)) for point, energy in found),
    }  # fmt: skip
    windows: Trace = {
        "type": "scatter", "mode": "markers", "hoverinfo": "skip",
        "x": [exact(mj) for _, energy in found for mj in energy.windows_mj],
        "y": [row for row, (_, energy) in enumerate(found) for _ in energy.windows_mj],
        "marker": tick(14, LIGHT.ink),
    }  # fmt: skip
    kind = "an estimate: nothing was metered" if one.energy_is_estimated else "metered"
    said = "Hatched bars are estimates. " if one.energy_is_estimated else ""
    return Chart(
        f"energy-{series.index}",
        f"{one.label}: energy per call, {kind}",
        f"{said}Bar: mean. Ticks: the windows that it was measured in, by turns.",
        [bars, windows],
        {"xaxis": axis("energy per call, mJ", rangemode="tozero"), "yaxis": name_axis(names)},
        rows_height_px(len(names), 34),
        Table(
            f"{one.label}: energy per call, mJ",
            ("configuration", ">mean", ">standard deviation", ">windows"),
            tuple(
                (
                    short(point.configuration, 60),
                    number(energy.mean_mj, 4),
                    NOTHING if energy.spread_mj is None else number(energy.spread_mj, 2),
                    str(len(energy.windows_mj)),
                )
                for point, energy in found
            ),
        ),
    )


def _told(energy: Energy) -> str:
    spread = "" if energy.spread_mj is None else f" ± {number(energy.spread_mj, 2)}"
    return f"{number(energy.mean_mj)}{spread} mJ"
