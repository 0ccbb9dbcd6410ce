"""What gates and routers decided: how often each unit ran, by answer and its sureness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import plural
from skipc.tools.report.texts import exact
from skipc.tools.web.chart import axis, hover, hovering, label, row_chart
from skipc.tools.web.html import Table, joined
from skipc.tools.web.page import Section
from skipc.tools.web.palette import HEAT_LIGHT, LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.tools.report.study import Study
    from skipc.tools.trtbench.report import Decided
    from skipc.tools.web.chart import Chart, Json

_MOST_NUMBERED = 16


def section(study: Study) -> Section:
    """Returns a map for each configuration that decides by the input, of each series."""
    charts = [
        _map(f"decided-{found.index}-{number}", f"{found.one.label}, {p.configuration}", told)
        for found in study.found(lambda one: one.decided or None)
        for number, (p, told) in enumerate(found.points)
    ]
    return Section(
        "decided",
        "What gates and routers decided",
        "For which share of the inputs each unit ran, or each graph answered. Inputs are told"
        " apart by the class that was answered, and by the largest probability.",
        joined(*(chart.html() for chart in charts)),
    )


def _map(name: str, title: str, told: Sequence[Decided]) -> Chart:
    units = [*told[0].ran]
    numbered = len(units) <= _MOST_NUMBERED
    rows = [f"{one.group} ({one.inputs})" for one in told]
    trace: dict[str, Json] = {
        "type": "heatmap",
        "x": list(range(len(units))), "y": list(range(len(told))),
        "z": [[exact(one.ran[unit]) for unit in units] for one in told],
        "zmin": 0, "zmax": 1,
        "colorscale": [[0, HEAT_LIGHT[0]], [0.5, HEAT_LIGHT[1]], [1, HEAT_LIGHT[2]]],
        "showscale": False, "xgap": 2, "ygap": 2,
        "text": [[_percent(one.ran[unit]) for unit in units] for one in told],
        "texttemplate": "%{text}" if numbered else "",
        "textfont": {"color": LIGHT.ink, "size": 12},
        **hovering(
            [
                [hover(unit, row, f"{_percent(one.ran[unit])} %") for unit in units]
                for row, one in zip(rows, told, strict=True)
            ]
        ),
    }  # fmt: skip
    columns = axis(
        "",
        tickmode="array", tickvals=list(range(len(units))),
        ticktext=[label(unit, 16) for unit in units], side="top", showgrid=False,
        tickfont={"color": LIGHT.ink, "size": 13 if numbered else 10},
    )  # fmt: skip
    return row_chart(
        name,
        f"{title}: what ran, in per cent",
        f"{plural(told[0].inputs, 'input')}, one by one; the number behind a group is how many"
        " are in it.",
        [trace],
        rows,
        columns,
        Table(
            f"{title}: per cent of the inputs",
            ("inputs", *(f">{unit}" for unit in units)),
            tuple(
                (row, *(_percent(one.ran[unit]) for unit in units))
                for row, one in zip(rows, told, strict=True)
            ),
        ),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
