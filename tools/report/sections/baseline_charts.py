"""Charts of baselines: dots in groups, a group for each configuration, ours on top."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.console import short
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
from skipc.tools.web.html import Table
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.tools.report.sections.marks import Trace
    from skipc.tools.report.study import Study
    from skipc.tools.trtbench.results.interval import RatioInterval
    from skipc.tools.web.chart import Json

OURS = "ours"
"""The name of the engine's own dots."""

# With more dots than these a name beside each would be too much; a legend has them then.
_MOST_NAMED = 72
# An em, half of which a dot covers.
_BESIDE = "\u2003"
# Over more powers of ten than these, only the powers have ticks.
_MOST_STEPPED = 2.5
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
        spans: From where to where a dot reaches with its interval: names stand beside that.
    """

    means: str
    dots: Sequence[Dot]
    x: Sequence[float]
    texts: Sequence[str]
    spans: Sequence[tuple[float, float]]


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
            [(each.median_ms, each.median_ms) for each in found],
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
        [*_traces(study, groups), *_names(groups)],
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
            [(over.low or over.ratio, over.high or over.ratio) for _, over in found],
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
        [*traces, *_names(groups, 1.0)],
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
    """Returns a trace of dots for each means."""
    return [
        {
            "type": "scatter", "mode": "markers", "name": group.means,
            "x": [exact(value) for value in group.x], "y": _heights(groups, index),
            "marker": dot(colours_of(study, (each.configuration for each in group.dots)), 10,
                          _symbol(group.means)),
            **hovering(_told(group.means, each) for each in group.dots),
        }
        for index, group in enumerate(groups)
    ]  # fmt: skip


def _names(groups: Sequence[_Group], *more: float) -> list[Trace]:
    """Returns the names beside the dots; none where there are too many.

    Args:
        groups: The dots.
        more: What else the axis shows.
    """
    if not _named(groups):
        return []
    middle = sum(_ends(groups, *more)) / 2
    traces: list[Trace] = []
    for index, group in enumerate(groups):
        # Towards the middle, where there is room.
        right = [math.log10(value) <= middle for value in group.x]
        ends = zip(group.spans, right, strict=True)
        texts = zip(group.texts, right, strict=True)
        traces.append({
            "type": "scatter", "mode": "text", "hoverinfo": "skip", "showlegend": False,
            "x": [exact(high if to_right else low) for (low, high), to_right in ends],
            "y": _heights(groups, index), "textfont": TEXT,
            "text": [f"{_BESIDE}{text}{_BESIDE}" for text, _ in texts],
            "textposition": [f"middle {'right' if r else 'left'}" for r in right],
        })  # fmt: skip
    return traces


def _heights(groups: Sequence[_Group], index: int) -> list[float]:
    """Returns where the dots of a means lie, in rows: side by side with the other means'."""
    offset = (index - (len(groups) - 1) / 2) * 0.8 / len(groups)
    return [exact(each.row + offset) for each in groups[index].dots]


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


def _layout(
    names: Sequence[str], groups: Sequence[_Group], title: str, *more: float
) -> dict[str, Json]:
    low, high = _ends(groups, *more)
    room = max(0.06 * (high - low), 0.02)
    low, high = exact(low - room), exact(high + room)
    return {
        "xaxis": axis(title, type="log", range=[low, high], exponentformat="none",
                      **_ticks(low, high)),
        "yaxis": name_axis(names),
        "shapes": _between(names),
        **({} if _named(groups) else {"showlegend": True, "legend": LEGEND}),
    }  # fmt: skip


def _ends(groups: Sequence[_Group], *more: float) -> tuple[float, float]:
    """Returns the decadic logarithms of the least and of the largest value shown."""
    at = [*more, *(value for group in groups for span in group.spans for value in span)]
    return math.log10(min(at)), math.log10(max(at))


def _ticks(low: float, high: float) -> dict[str, Json]:
    """Returns ticks between two powers of ten, written out.

    Plotly writes the ticks out by itself only within one power.
    """
    if high - low < 1:
        return {"nticks": 6}
    steps = (1, 2, 5) if high - low < _MOST_STEPPED else (1,)
    powers = range(math.floor(low), math.ceil(high))
    at = [exact(step * 10.0**power) for power in powers for step in steps]
    shown = [value for value in at if 10**low <= value <= 10**high]
    return {"tickmode": "array", "tickvals": shown, "ticktext": [f"{v:.12g}" for v in shown]}


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
