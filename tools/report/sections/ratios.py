"""Latencies over others, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections.marks import TEXT, colours_of, dot, hovering
from skipc.tools.report.texts import exact, ratio
from skipc.tools.web.chart import Chart, axis, hover, name_axis, rows_height_px
from skipc.tools.web.html import Table
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skipc.tools.report.study import Study
    from skipc.tools.trtbench.latency import RatioInterval
    from skipc.tools.web.chart import Json

_MOST_NUMBERED = 24

UNITY: dict[str, Json] = {
    "type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper",
    "line": {"color": LIGHT.ink, "width": 1, "dash": "dot"},
}  # fmt: skip
"""A line where two latencies are the same."""


@dataclass(frozen=True, slots=True)
class Ratios:
    """Ratios of one series, in words.

    Attributes:
        title: The chart's title.
        beside: What lies on which side of the line, with what stands in the caption.
        of: What the latencies are compared with.
        verdict: Says what an interval comes to.
    """

    title: str
    beside: str
    of: str
    verdict: Callable[[RatioInterval], str]


def ratio_chart(
    study: Study, words: Ratios, found: Sequence[tuple[str, RatioInterval]], name: str
) -> Chart:
    """Returns the ratios of a series.

    Args:
        study: The study.
        words: What the ratios are.
        found: Configurations with their ratios, at least one.
        name: The chart's name.
    """
    names = [configuration for configuration, _ in found]
    middle = [exact(each.ratio) for _, each in found]
    trace: dict[str, Json] = {
        "type": "scatter",
        "mode": "markers+text" if len(found) <= _MOST_NUMBERED else "markers",
        "x": middle, "y": list(range(len(found))),
        "error_x": _interval_bars([each for _, each in found]),
        "text": [f"{value:.2f}" for value in middle], "textfont": TEXT,
        "textposition": "top center", "marker": dot(colours_of(study, names), 11),
        **hovering(hover(who, f"{ratio(each)} of {words.of}") for who, each in found),
    }  # fmt: skip
    end = 1.05 * max(1.0, *(each.high or each.ratio for _, each in found))
    return Chart(
        name,
        words.title,
        "Bars are intervals of 95 % from this one run, often too narrow to see;"
        f" {words.beside}",
        [trace],
        {
            "xaxis": axis("ratio of latencies", range=[0, end]),
            "yaxis": name_axis(names),
            "shapes": [UNITY],
        },
        rows_height_px(len(names), 36),
        Table(
            f"{words.title}: ratios",
            ("configuration", ">ratio (95 %)", "verdict"),
            tuple((short(who, 60), ratio(each), words.verdict(each)) for who, each in found),
        ),
    )


def _interval_bars(found: Sequence[RatioInterval]) -> dict[str, Json]:
    """Returns Plotly's ``error_x`` for the intervals of these ratios; none where unknown."""
    return {
        "type": "data", "symmetric": False, "color": LIGHT.ink, "thickness": 1.5, "width": 5,
        "array": [exact((each.high or each.ratio) - each.ratio) for each in found],
        "arrayminus": [exact(each.ratio - (each.low or each.ratio)) for each in found],
    }  # fmt: skip
