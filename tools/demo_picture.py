"""The demo's picture: the front, and the trace of budget, latency and configuration."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

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
    colours = {p.configuration: f"C{index}" for index, p in enumerate(points)}
    _draw_front(front, points, colours)
    _draw_trace(trace, calls, colours)
    for axes in (front, trace):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    # Outside of the axes: no place inside is free for every budget.
    figure.legend(
        *trace.get_legend_handles_labels(), loc="outside lower center", ncols=8, markerscale=3
    )
    figure.savefig(path, dpi=120)


def _draw_front(axes: Axes, points: list[Point], colours: dict[str, str]) -> None:
    ordered = sorted(points, key=lambda p: p.p50_ms)
    x, y = [p.p50_ms for p in ordered], [100 * p.accuracy for p in ordered]
    axes.plot(x, y, color="0.8", zorder=1)
    for p in points:
        place = (p.p50_ms, 100 * p.accuracy)
        axes.scatter(*place, s=60, color=colours[p.configuration], zorder=2)
        axes.annotate(p.configuration, place, (6, -12), textcoords="offset points")
    axes.set(title="The front", xlabel="latency p50 (ms)", ylabel="test accuracy (%)")
    axes.margins(0.15)


def _draw_trace(axes: Axes, calls: list[Call], colours: dict[str, str]) -> None:
    for feasible, run in groupby(calls, lambda call: call.feasible):
        numbers = [call.number for call in run]
        if not feasible:
            first, last = numbers[0] - 0.5, numbers[-1] + 0.5
            axes.axvspan(first, last, color="0.92", zorder=0, linewidth=0)
    for name, colour in colours.items():
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
