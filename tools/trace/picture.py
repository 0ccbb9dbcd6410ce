"""The picture of a trace as PNG, by matplotlib."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.bundle.files import write_whole
from skipc.compiler.extras import require
from skipc.tools.console import short
from skipc.tools.trace.content import content_of
from skipc.tools.web.palette import ramp

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from skipc.runtime.call.trace import Trace
    from skipc.tools.trace.content import Content

# Told apart by the colour-blind, on paper and in grey.
_LIMIT, _PREDICTION, _FAILED = "#000000", "#5a5a5a", "#d55e00"
_POWER, _OTHER_POWER = "#0072b2", "#cc79a7"
_INFEASIBLE = "#e8e8e8"
WIDTH_PX = 1200
_DPI = 150
_POINTS = 20_000
_MOMENTS = 600
_LONGEST_NAME = 18
_LEAST_LETTERS = 4.0
_ROW_INCHES, _MOST_ROWS_INCHES = 0.2, 3.0
_LATENCY_INCHES, _ENERGY_INCHES, _OTHER_INCHES = 3.0, 1.5, 1.1


def write_png(path: Path, trace: Trace, description: str) -> None:
    """Writes the picture, 1200 pixels wide; its height depends on what there is to show.

    Args:
        path: The file; one that is there is replaced.
        trace: What to draw.
        description: What the picture shows, for those who do not see it.

    Raises:
        ExtraMissingError: matplotlib is not installed.
    """
    figures = require("matplotlib.figure", "report")
    content = content_of(trace, _POINTS, _MOMENTS)
    heights = [_LATENCY_INCHES, _strip_inches(content)]
    if content.energy is not None:
        heights.append(_ENERGY_INCHES)
    size = (WIDTH_PX / _DPI, sum(heights) + _OTHER_INCHES)
    figure = figures.Figure(figsize=size, dpi=_DPI, layout="constrained")
    panels = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    _draw_latency(panels[0], content)
    _draw_strip(panels[1], content)
    if content.energy is not None:
        _draw_energy(panels[2], content)
    scale, unit = time_unit(content)
    panels[-1].set_xlabel(f"time since the engine was opened ({unit})")
    panels[0].set_xlim(*(scale * at for at in content.range_s))
    for axes in panels:
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.label.set_size(9)
        axes.yaxis.label.set_size(9)
        axes.ticklabel_format(axis="x", useOffset=False, style="plain")
    title = figure.suptitle(content.title, fontsize=11)
    title.set_parse_math(False)
    if content.notes:
        notes = "\n".join(textwrap.wrap(" ".join(content.notes), 110))
        figure.supxlabel(notes, fontsize=8, color="#404040")
    data = io.BytesIO()
    about = {"Software": None, "Title": title.get_text(), "Description": description}
    figure.savefig(data, format="png", metadata=about)
    write_whole(path, data.getvalue())


def time_unit(content: Content) -> tuple[float, str]:
    """Returns what seconds are multiplied with, and the unit that they are then in."""
    last_s = max(map(abs, content.range_s))
    if last_s >= 3 * 3600:
        return 1 / 3600, "h"
    return (1 / 60, "min") if last_s >= 600 else (1.0, "s")


def _strip_inches(content: Content) -> float:
    return min(max(_ROW_INCHES * len(content.rows), 0.4), _MOST_ROWS_INCHES)


def _draw_latency(axes: Axes, content: Content) -> None:
    columns, (scale, _) = content.columns, time_unit(content)
    colours = rank_colours(len(columns.configurations))
    size = float(np.clip(9000 / max(len(content.drawn), 1), 3, 18))
    for row in content.rows:
        own = content.drawn_of(row, failed=False)
        x, y = scale * columns.end_s[own], columns.latency_ms[own]
        axes.scatter(x, y, s=size, color=colours[row], linewidths=0, zorder=2)
        own = content.drawn_of(row, failed=True)
        x, y = scale * columns.end_s[own], columns.latency_ms[own]
        axes.scatter(x, y, s=30, color=_FAILED, marker="x", zorder=5)
    x, y = content.predictions
    axes.plot(scale * x, y, color=_PREDICTION, linewidth=0.8, zorder=1.5)
    x, y = content.limit
    axes.step(scale * x, y, where="post", color=_LIMIT, linewidth=1.4, zorder=4)
    spans = [] if content.strip is None else content.strip.infeasible_spans_s
    axes.broken_barh(
        [(scale * first_s, scale * (last_s - first_s)) for first_s, last_s in spans],
        (0, 1), transform=axes.get_xaxis_transform(), color=_INFEASIBLE, linewidth=0, zorder=0,
    )  # fmt: skip
    if content.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(*content.range_ms)
    axes.set_ylabel("latency (ms)")
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.25, which="major")
    _draw_legend(axes, content, bool(spans))


def _draw_legend(axes: Axes, content: Content, infeasible: bool) -> None:
    """Draws what the marks of the latency panel mean; the strip names the colours."""
    line = require("matplotlib.lines", "report").Line2D
    patch = require("matplotlib.patches", "report").Patch
    dots = {"linestyle": "", "markersize": 4}
    entries = [
        line([], [], color="#707070", marker="o", label="call", **dots),
        line([], [], color=_PREDICTION, linewidth=0.8, label="prediction"),
    ]
    if not np.isnan(content.columns.limit_ms).all():
        entries.append(line([], [], color=_LIMIT, linewidth=1.4, label="limit"))
    if content.columns.failed.any():
        entries.append(line([], [], color=_FAILED, marker="x", label="failed", **dots))
    if infeasible:
        entries.append(patch(color=_INFEASIBLE, label="nothing meets the budget"))
    axes.legend(
        handles=entries, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(entries),
        frameon=False, fontsize=8, borderaxespad=0.2, columnspacing=1.4, handlelength=1.4,
    )  # fmt: skip


def _draw_strip(axes: Axes, content: Content) -> None:
    rows, (scale, _) = content.rows, time_unit(content)
    configurations = content.columns.configurations
    colours = rank_colours(len(configurations))
    if content.strip is not None:
        shares = np.nan_to_num(content.strip.shares[list(rows)])
        cells = np.ones((*shares.shape, 4))
        cells[..., :3] = np.array([colours[row] for row in rows])[:, None, :]
        # A lone call among hundreds is to be seen.
        cells[..., 3] = np.where(shares > 0, 0.25 + 0.75 * shares, 0)
        for index in range(len(rows)):
            edges = [index - 0.38, index + 0.38]
            axes.pcolormesh(scale * content.strip.edges_s, edges, cells[index : index + 1])
    places = range(len(rows))
    for index, row in enumerate(rows):
        axes.plot(
            [-0.008], [index], marker="s", markersize=5, color=colours[row], clip_on=False,
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.set_yticks(list(places))
    size = min(8.0, 0.75 * 72 * _strip_inches(content) / max(len(rows), 1))
    names = [short(configurations[row].name, _LONGEST_NAME) for row in rows]
    for label in axes.set_yticklabels(names, parse_math=False):
        label.set_fontsize(size)
        label.set_visible(size >= _LEAST_LETTERS)
    axes.tick_params(axis="y", length=0, pad=9)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)


def _draw_energy(axes: Axes, content: Content) -> None:
    panel, (scale, _) = content.energy, time_unit(content)
    if panel is None:
        return
    taken = iter((_POWER, _OTHER_POWER))
    granted = iter(("-", "--", ":"))
    for line in panel.lines:
        x, y = scale * line.time_s, np.minimum(line.values, 10 * panel.top)
        label = line.label if line.granted else f"{line.label}, mean of {panel.window}"
        if line.granted:
            style = "steps-post" if line.stepped else "default"
            axes.plot(
                x, y, color=_LIMIT, linewidth=2.4, linestyle=next(granted),
                drawstyle=style, label=label, zorder=2,
            )  # fmt: skip
        else:
            axes.plot(x, y, color=next(taken), linewidth=1.2, label=label, zorder=3)
    axes.set_ylim(0, panel.top)
    axes.set_ylabel(panel.axis)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.25)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=8,
        borderaxespad=0.2, columnspacing=1.4, handlelength=1.6,
    )  # fmt: skip


def rank_colours(count: int) -> list[tuple[float, float, float]]:
    """Returns a colour for each of so many ranks, the darkest for the most accurate.

    Returns:
        Red, green and blue between 0 and 1.
    """
    return [
        (int(text[1:3], 16) / 255, int(text[3:5], 16) / 255, int(text[5:7], 16) / 255)
        for text in ramp(count)
    ]
