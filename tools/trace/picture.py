"""The picture of a trace as PNG, by matplotlib."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.bundle.files import write_whole
from skipc.compiler.extras import require
from skipc.tools.console import short
from skipc.tools.trace.content import content_of, exit_colours
from skipc.tools.web.palette import ramp

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from skipc.runtime.call.trace import Trace
    from skipc.tools.trace.columns import Line
    from skipc.tools.trace.content import Content, ExitShares
    from skipc.tools.trace.energy import EnergyPanel

# Told apart by the colour-blind, on paper and in grey.
_LIMIT, _PREDICTION, _FAILED = "#000000", "#5a5a5a", "#d55e00"
_POWER, _OTHER_POWER = "#0072b2", "#cc79a7"
_INFEASIBLE = "#e8e8e8"
_WIDTH_PX = 1200
_DPI = 150
_POINTS = 20_000
_MOMENTS = 600
_LONGEST_NAME = 18
_LEAST_LETTERS = 4.0
_ROW_INCHES, _MOST_ROWS_INCHES = 0.2, 3.0
_LATENCY_INCHES, _EXITS_INCHES, _ENERGY_INCHES, _OTHER_INCHES = 3.0, 1.1, 1.5, 1.1


def write_png(path: Path, trace: Trace, description: str) -> None:
    """Writes the picture, 1200 pixels wide; its height depends on what there is to show.

    ``description`` is what it shows, for those who do not see it.

    Raises:
        ExtraMissingError: matplotlib is not installed.
    """
    figures = require("matplotlib.figure", "report")
    content = content_of(trace, _POINTS, _MOMENTS)
    heights = [_LATENCY_INCHES, _strip_inches(content)]
    if content.exits is not None:
        heights.append(_EXITS_INCHES)
    if content.energy is not None:
        heights.append(_ENERGY_INCHES)
    size = (_WIDTH_PX / _DPI, sum(heights) + _OTHER_INCHES)
    figure = figures.Figure(figsize=size, dpi=_DPI, layout="constrained")
    panels = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    _draw_latency(panels[0], content)
    _draw_strip(panels[1], content)
    if content.exits is not None:
        _draw_exits(panels[2], content, content.exits)
    if content.energy is not None:
        _draw_energy(panels[-1], content, content.energy)
    panels[-1].set_xlabel(f"time since the engine was opened ({content.unit})")
    panels[0].set_xlim(*(content.scale * at for at in content.range_s))
    for axes in panels:
        axes.tick_params(axis="y", labelsize=8)
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


def _strip_inches(content: Content) -> float:
    return min(max(_ROW_INCHES * len(content.rows), 0.4), _MOST_ROWS_INCHES)


def _draw_latency(axes: Axes, content: Content) -> None:
    columns, scale, spans_s = content.columns, content.scale, content.infeasible_spans_s
    colours = ramp(len(columns.configurations))
    size = float(np.clip(9000 / max(len(content.drawn), 1), 3, 18))
    for row in content.rows:
        styles: tuple[dict[str, Any], ...] = (
            {"s": size, "color": colours[row], "linewidths": 0, "zorder": 2},
            {"s": 30, "color": _FAILED, "marker": "x", "zorder": 5},
        )
        for failed, style in enumerate(styles):
            own = content.drawn_of(row, bool(failed))
            axes.scatter(scale * columns.end_s[own], columns.latency_ms[own], **style)
    _draw_line(axes, content, content.prediction, color=_PREDICTION, linewidth=0.8, zorder=1.5)
    _draw_line(axes, content, content.limit, color=_LIMIT, linewidth=1.4, zorder=4)
    axes.broken_barh(
        [(scale * first_s, scale * (last_s - first_s)) for first_s, last_s in spans_s],
        (0, 1), transform=axes.get_xaxis_transform(), color=_INFEASIBLE, linewidth=0, zorder=0,
    )  # fmt: skip
    for at_s, mode in content.modes:
        axes.axvline(scale * at_s, color=_PREDICTION, linewidth=0.8, ls=":", zorder=1)
        axes.text(
            scale * at_s, 0.01, f" {short(mode, _LONGEST_NAME)}", fontsize=7, va="bottom",
            transform=axes.get_xaxis_transform(), parse_math=False,
        )  # fmt: skip
    if content.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(*content.range_ms)
    axes.set_ylabel("latency (ms)")
    axes.grid(alpha=0.25, which="major")
    # What the marks mean; the strip names the colours.
    line = require("matplotlib.lines", "report").Line2D
    patch = require("matplotlib.patches", "report").Patch
    dots = {"linestyle": "", "markersize": 4}
    entries = [
        line([], [], color="#707070", marker="o", label="call", **dots),
        line([], [], color=_PREDICTION, linewidth=0.8, label="prediction"),
    ]
    if not np.isnan(columns.limit_ms).all():
        entries.append(line([], [], color=_LIMIT, linewidth=1.4, label="limit"))
    if columns.failed.any():
        entries.append(line([], [], color=_FAILED, marker="x", label="failed", **dots))
    if spans_s:
        entries.append(patch(color=_INFEASIBLE, label="nothing meets the budget"))
    _draw_legend(axes, handles=entries, ncols=len(entries))


def _draw_line(axes: Axes, content: Content, line: Line, **style: Any) -> None:
    axes.plot(content.scale * line.time_s, line.values, **style)


def _draw_legend(axes: Axes, **own: Any) -> None:
    """Draws a legend above a panel."""
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=8,
        borderaxespad=0.2, columnspacing=1.4, handlelength=1.4, **own,
    )  # fmt: skip


def _draw_strip(axes: Axes, content: Content) -> None:
    rows, configurations = content.rows, content.columns.configurations
    colours = ramp(len(configurations))
    if content.strip is not None:
        shares = np.nan_to_num(content.strip.shares[list(rows)])
        cells = np.ones((*shares.shape, 4))
        rgba = require("matplotlib.colors", "report").to_rgba_array
        cells[..., :3] = rgba([colours[row] for row in rows])[:, None, :3]
        # A lone call among hundreds is to be seen.
        cells[..., 3] = np.where(shares > 0, 0.25 + 0.75 * shares, 0)
        for index in range(len(rows)):
            edges = [index - 0.38, index + 0.38]
            axes.pcolormesh(
                content.scale * content.strip.edges_s, edges, cells[index : index + 1]
            )
    for index, row in enumerate(rows):
        axes.plot(
            [-0.008], [index], marker="s", markersize=5, color=colours[row], clip_on=False,
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.set_yticks(range(len(rows)))
    size = min(8.0, 0.75 * 72 * _strip_inches(content) / max(len(rows), 1))
    names = [short(configurations[row].name, _LONGEST_NAME) for row in rows]
    for label in axes.set_yticklabels(names, parse_math=False):
        label.set_fontsize(size)
        label.set_visible(size >= _LEAST_LETTERS)
    axes.tick_params(axis="y", length=0, pad=9)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)


def _draw_exits(axes: Axes, content: Content, exits: ExitShares) -> None:
    names = content.columns.exits
    shares = 100 * np.append(exits.shares, exits.shares[:, -1:], axis=1)
    edges, colours = content.scale * exits.edges_s, exit_colours(names)
    axes.stackplot(edges, shares, step="post", labels=names, colors=colours, linewidth=0)
    axes.set_ylim(0, 135)  # the legend lies above
    axes.set_yticks((0, 50, 100))
    axes.set_ylabel("answered at (%)")
    _draw_legend(axes, ncols=len(names))


def _draw_energy(axes: Axes, content: Content, panel: EnergyPanel) -> None:
    taken, granted = iter((_POWER, _OTHER_POWER)), iter(("-", "--", ":"))
    for line in panel.lines:
        style = {"color": _LIMIT, "linewidth": 2.4, "zorder": 2}
        if line.granted:
            style["linestyle"] = next(granted)
        else:
            style = {"color": next(taken), "linewidth": 1.2, "zorder": 3}
        _draw_line(axes, content, line, label=line.label, **style)
    axes.set_ylim(0, panel.top)
    axes.set_ylabel(panel.axis)
    axes.grid(alpha=0.25)
    _draw_legend(axes, ncols=2)
