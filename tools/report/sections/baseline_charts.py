"""Charts of baselines: dots in groups, a group for each configuration, ours on top."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.printable import short
from skipc.tools.report.sections.marks import (
    TEXT,
    colours_of,
    dot,
    hovering,
    series_symbol,
)
from skipc.tools.report.sections.ratios import UNITY, interval_bars
from skipc.tools.report.texts import NOTHING, exact, number, ratio
from skipc.tools.trtbench.baselines.found import verdict
from skipc.tools.trtbench.baselines.registry import BASELINES
from skipc.tools.web.chart import LEGEND, Chart, axis, hover, name_axis
from skipc.tools.web.palette import LIGHT
from skipc.tools.web.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.tools.report.sections.marks import Trace
    from skipc.tools.report.study import Study
    from skipc.tools.trtbench.interval import RatioInterval
    from skipc.tools.web.chart import Json

OURS = "ours"
"""The name of the engine's own dots."""

# With more dots than these a name beside each would be too much; a legend has them then.
_MOST_NAMED = 72
_DOT_PX, _SMALL_DOT_PX, _GAP_PX = 19, 8, 9


@dataclass(frozen=True, slots=True)
class Dot:
    """A configuration run by one means.

    Attributes:
        configuration: Its name.
        row: The configuration's place in the chart, from the top.
        median_ms: Its median latency.
        over: Its latency over ours; None for ours.
    """

    configuration: str
    row: int
    median_ms: float
    over: RatioInterval | None


@dataclass(frozen=True, slots=True)
class _Group:
    """The dots of one means, placed.

    Attributes:
        means: Ours, or the baseline's name.
        dots: The dots.
        x: Where they lie on the axis, above zero.
        texts: What stands beside them.
    """

    means: str
    dots: Sequence[Dot]
    x: Sequence[float]
    texts: Sequence[str]


def medians_chart(
    study: Study,
    label: str,
    names: Sequence[str],
    dots: Mapping[str, Sequence[Dot]],
    name: str,
) -> Chart:
    """Returns median latencies, on a logarithmic axis.

    Args:
        study: The study.
        label: The series' name.
        names: The configurations in their order.
        dots: By means, ours first.
        name: The chart's name.
    """
    groups = [
        _Group(
            means,
            found,
            [each.median_ms for each in found],
            [f"{means} {number(each.median_ms)}" for each in found],
        )
        for means, found in dots.items()
    ]
    medians = {m: {d.configuration: number(d.median_ms, 4) for d in dots[m]} for m in dots}
    rows = tuple(
        (short(who, 60), *(medians[means].get(who, NOTHING) for means in dots))
        for who in names
    )
    return Chart(
        name,
        f"{label}: median latency, ours and the baselines'",
        "Each dot is a median. The axis is logarithmic: equal distances are equal ratios.",
        _traces(study, groups),
        _layout(names, groups, "median latency of a call, ms"),
        _height_px(len(names), groups),
        Table(
            f"{label}: median latency in ms",
            ("configuration", *(f">{means}" for means in dots)),
            rows,
        ),
    )


def ratios_chart(
    study: Study,
    label: str,
    names: Sequence[str],
    dots: Mapping[str, Sequence[Dot]],
    name: str,
) -> Chart:
    """Returns the baselines' latencies over ours; arguments as of ``medians_chart``."""
    known = {
        means: [(each, each.over) for each in found if each.over is not None]
        for means, found in dots.items()
        if means != OURS
    }
    groups = [
        _Group(
            means,
            [each for each, _ in found],
            [over.ratio for _, over in found],
            [f"{means} {over.ratio:.2f}" for _, over in found],
        )
        for means, found in known.items()
    ]
    traces = _traces(study, groups)
    for trace, found in zip(traces, known.values(), strict=True):
        trace["error_x"] = interval_bars([over for _, over in found])
    lines = [*_between(names), UNITY]
    layout = _layout(names, groups, "latency over ours", 1.0) | {"shapes": lines}
    return Chart(
        name,
        f"{label}: the baselines' latency over ours",
        "Bars are intervals of 95 % from this one run, often too narrow to see; right of the"
        " line ours is faster. The axis is logarithmic.",
        traces,
        layout,
        _height_px(len(names), groups),
        Table(
            f"{label}: ratios to ours",
            ("configuration", "baseline", ">ratio (95 %)", "verdict"),
            tuple(
                (short(who, 60), means, ratio(over), verdict(over))
                for who in names
                for means, found in known.items()
                for each, over in found
                if each.configuration == who
            ),
        ),
    )


def _traces(study: Study, groups: Sequence[_Group]) -> list[Trace]:
    """Returns a trace for each means."""
    mode = "markers+text" if _named(groups) else "markers"
    at = [value for group in groups for value in group.x]
    middle = math.sqrt(min(at)) * math.sqrt(max(at))
    return [
        {
            "type": "scatter", "mode": mode, "name": group.means, "textfont": TEXT,
            "x": [exact(value) for value in group.x], "text": list(group.texts),
            "y": [each.row + _offset(index, len(groups)) for each in group.dots],
            # Towards the middle, where there is room.
            "textposition": [f"middle {'right' if v <= middle else 'left'}" for v in group.x],
            "marker": dot(colours_of(study, (each.configuration for each in group.dots)), 10,
                          _symbol(group.means)),
            **hovering(_told(group.means, each) for each in group.dots),
        }
        for index, group in enumerate(groups)
    ]  # fmt: skip


def _told(means: str, found: Dot) -> str:
    lines = [f"{means}: median {number(found.median_ms)} ms"]
    if found.over is not None:
        lines += [f"{ratio(found.over)} of ours", verdict(found.over)]
    return hover(found.configuration, *lines)


def _symbol(means: str) -> str:
    """Returns the symbol of a means, the same in every series."""
    return series_symbol(0 if means == OURS else 1 + list(BASELINES).index(means))


def _named(groups: Sequence[_Group]) -> bool:
    return sum(len(group.dots) for group in groups) <= _MOST_NAMED


def _offset(index: int, count: int) -> float:
    """Returns how far below the middle of its row a means lies."""
    return exact((index - (count - 1) / 2) * 0.8 / count)


def _layout(
    names: Sequence[str], groups: Sequence[_Group], title: str, *more: float
) -> dict[str, Json]:
    at = [*more, *(value for group in groups for value in group.x)]
    low, high = math.log10(min(at)), math.log10(max(at))
    room = max(0.06 * (high - low), 0.02)
    return {
        "xaxis": axis(title, type="log", range=[exact(low - room), exact(high + room)],
                      exponentformat="none", nticks=6),
        "yaxis": name_axis(names),
        "shapes": _between(names),
        **({} if _named(groups) else {"showlegend": True, "legend": LEGEND}),
    }  # fmt: skip


def _between(names: Sequence[str]) -> list[Json]:
    """Returns lines between the configurations."""
    return [
        {
            "type": "line", "xref": "paper", "x0": 0, "x1": 1,
            "y0": row + 0.5, "y1": row + 0.5, "line": {"color": LIGHT.grid, "width": 1},
            "layer": "below",
        }
        for row in range(len(names) - 1)
    ]  # fmt: skip


def _height_px(count: int, groups: Sequence[_Group]) -> int:
    dot_px = _DOT_PX if _named(groups) else _SMALL_DOT_PX
    return 90 + count * (_GAP_PX + dot_px * len(groups))
