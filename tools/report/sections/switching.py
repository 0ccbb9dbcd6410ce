"""What a switch costs: the first call of one configuration after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.texts import NOTHING, exact, number
from skipc.tools.web.chart import axis, hover, hovering, label, row_chart
from skipc.tools.web.html import Table, joined
from skipc.tools.web.page import Section
from skipc.tools.web.palette import HEAT_LIGHT, LIGHT

if TYPE_CHECKING:
    from skipc.tools.report.measurement import Measurement
    from skipc.tools.report.study import Study
    from skipc.tools.trtbench.report import Switching
    from skipc.tools.web.chart import Chart, Json

_MOST_NUMBERED = 10
# A ratio at which the colour is full, at least: small differences are not to look large.
_LEAST_FULL = 1.5


def section(study: Study) -> Section:
    """Returns a map for each series whose switches were measured."""
    charts = [
        _map(study, one, one.report.switching, index).html()
        for index, one in enumerate(study.measurements)
        if one.report is not None and one.report.switching is not None
    ]
    return Section(
        "switches",
        "Switches",
        "The first call after another configuration, over that configuration's steady median."
        " 1 means that a switch costs nothing.",
        joined(*charts),
    )


def _map(study: Study, one: Measurement, switching: Switching, index: int) -> Chart:
    ratios = switching.ratios()
    names = sorted(ratios, key=lambda name: study.ranks[name])
    cells = [[ratios[a].get(b) for b in names] for a in names]
    before, after, worst = switching.worst()
    numbered = len(names) <= _MOST_NUMBERED
    texts = [
        [
            hover(f"{a} → {b}", f"{number(switching.first_ms[a][b])} ms, steady"
                  f" {number(switching.steady_ms[b])} ms", f"ratio {ratios[a][b]:.2f}")
            if a != b else ""
            for b in names
        ]
        for a in names
    ]  # fmt: skip
    trace: dict[str, Json] = {
        "type": "heatmap",
        "x": list(range(len(names))), "y": list(range(len(names))),
        "z": [[None if cell is None else exact(cell) for cell in row] for row in cells],
        "zmin": 1, "zmax": max(_LEAST_FULL, worst),
        "colorscale": [[0, HEAT_LIGHT[0]], [0.5, HEAT_LIGHT[1]], [1, HEAT_LIGHT[2]]],
        "showscale": False, "xgap": 2, "ygap": 2, "hoverongaps": False,
        "text": [["" if cell is None else f"{cell:.2f}" for cell in row] for row in cells],
        "texttemplate": "%{text}" if numbered else "",
        "textfont": {"color": LIGHT.ink, "size": 12},
        **hovering(texts),
    }  # fmt: skip
    columns = axis(
        "",
        tickmode="array", tickvals=list(range(len(names))),
        ticktext=[f"→ {label(name, 16)}" for name in names], side="top", showgrid=False,
        tickfont={"color": LIGHT.ink, "size": 13 if numbered else 10},
    )  # fmt: skip
    full = "" if numbered else " The numbers are in the table."
    return row_chart(
        f"switches-{index}",
        f"{one.label}: first call after a switch, over the steady median",
        f"Worst: {short(after, 40)} after {short(before, 40)}, {worst:.2f} times its steady"
        f" median; each switch was made {switching.repeats} times.{full}",
        [trace],
        [f"{name} →" for name in names],
        columns,
        Table(
            f"{one.label}: rows before, columns after",
            ("before", *(f">{name}" for name in names)),
            tuple(
                (a, *(NOTHING if cell is None else f"{cell:.2f}" for cell in row))
                for a, row in zip(names, cells, strict=True)
            ),
        ),
    )
