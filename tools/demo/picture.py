"""The demo's picture: the front, and the trace of budget, latency and configuration."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from skipc.tools.web.labels import along_steps, draw_names
from skipc.tools.web.palette import ramp

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration on the front."""

    configuration: str
    p50_ms: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the trace."""

    number: int
    budget_ms: float
    latency_ms: float
    configuration: str
    feasible: bool
    right: bool


def draw(path: Path, points: list[Point], calls: list[Call]) -> None:
    """Writes the picture as PNG to ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(figure)
    front, trace = figure.subplots(1, 2, width_ratios=(1, 2))
    ranked = sorted(points, key=lambda p: (-p.accuracy, p.p50_ms))
    shades = ramp(len(points))
    colours = {p.configuration: shade for p, shade in zip(ranked, shades, strict=True)}
    steps = _draw_front(front, points, colours)
    _draw_trace(trace, calls, colours)
    for axes in (front, trace):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    # Outside of the axes: no place inside is free for every budget.
    figure.legend(
        *trace.get_legend_handles_labels(), loc="outside lower center", ncols=8, markerscale=3
    )
    figure.set_dpi(120)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the names are not to move what they were placed by
    draw_names(
        front,
        [p.configuration for p in points],
        [(p.p50_ms, 100 * p.accuracy) for p in points],
        list(along_steps(steps)),
    )
    figure.savefig(path, dpi=120)


def _draw_front(
    axes: Axes, points: list[Point], colours: dict[str, str]
) -> list[tuple[float, float]]:
    """Draws the points; returns the corners of the steps over them."""
    ordered = sorted(points, key=lambda p: (p.p50_ms, -p.accuracy))
    best: list[Point] = []
    for p in ordered:
        if not best or p.accuracy > best[-1].accuracy:
            best.append(p)
    x, y = [p.p50_ms for p in best], [100 * p.accuracy for p in best]
    x, y = [*x, ordered[-1].p50_ms], [*y, y[-1]]
    axes.step(x, y, color="0.7", zorder=1, where="post")
    for p in ordered:
        axes.scatter(
            p.p50_ms, 100 * p.accuracy, s=60, color=colours[p.configuration], zorder=2
        )
    axes.set(title="The front", xlabel="median latency (ms)", ylabel="test accuracy (%)")
    axes.margins(0.15)
    return list(zip(x, y, strict=True))


def _draw_trace(axes: Axes, calls: list[Call], colours: dict[str, str]) -> None:
    for feasible, run in groupby(calls, lambda call: call.feasible):
        numbers = [call.number for call in run]
        if not feasible:
            first, last = numbers[0] - 0.5, numbers[-1] + 0.5
            axes.axvspan(first, last, color="0.92", zorder=0, linewidth=0)
    for name, colour in colours.items():  # the most accurate first
        own = [call for call in calls if call.configuration == name]
        x, y = [call.number for call in own], [call.latency_ms for call in own]
        axes.scatter(x, y, s=6, color=colour, label=name, linewidths=0)
    x, y = [call.number for call in calls], [call.budget_ms for call in calls]
    axes.step(x, y, color="black", linewidth=1.2, where="post", label="budget")
    # Single outliers of a busy machine would flatten everything else.
    axes.set(
        title="Each call (grey: predicted to miss the budget, so the fastest runs)",
        xlabel="call",
        ylabel="latency (ms)",
        ylim=(0, 1.1 * max(y)),
    )
