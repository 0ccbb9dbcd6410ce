"""Where the names of a chart's points go: no name on another, none on a point."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skipc.tools.console import short
from skipc.tools.web.chart import label
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from skipc.tools.web.chart import Json

    Places = Sequence[tuple[float, float]]
    Boxes = NDArray[np.float64]

# Away from a front first, where nothing is; then beside, then below.
_DIRECTIONS = ((-1, 1), (0, 1), (-1, 0), (1, -1), (1, 1), (1, 0), (0, -1), (-1, -1))
_AWAY_PX = 5.0 + 9.0 * np.arange(16)
_POINT_PX, _OBSTACLE_PX = 7.0, 3.0
_MOST_NAMED = 14
_LETTERS_PT = 8
_PAGE_PX, _PHONE_PX = (760, 340), (280, 320)
_LONGEST = 14
_LETTER = 0.6
"""A letter's width over the font's size."""


class Label(NamedTuple):
    """From a point to the middle of its name; a name that is apart needs a line to it."""

    right_px: float
    up_px: float
    is_apart: bool


def labels(
    names: Sequence[str],
    points_px: Places,
    obstacles_px: Places,
    size_px: tuple[float, float],
    font_px: float,
) -> list[Label]:
    """Returns where each name goes: the nearest place that is free, or the freest.

    Args:
        names: The names as they are shown.
        points_px: Where each one's point is, from the lower left corner of the plot.
        obstacles_px: What else is not to be covered.
        size_px: Width and height of the plot, which no name should leave.
        font_px: The letters' size.
    """
    plot, found = np.array([[0.0, 0.0, *size_px]]), {}
    points = np.reshape(np.array(points_px, float), (-1, 2))
    obstacles = np.reshape(np.array(obstacles_px, float), (-1, 2))
    taken = np.concatenate([_around(points, _POINT_PX), _around(obstacles, _OBSTACLE_PX)])
    # From the upper left on, since names go there.
    for i in np.argsort(points[:, 0] - points[:, 1], kind="stable"):
        half = np.array([max(len(names[i]), 1) * _LETTER / 2, 0.6]) * font_px
        away = np.array(_DIRECTIONS) * (half + _AWAY_PX[:, None, None])
        boxes = _around(points[i] + away.reshape(-1, 2), half)
        bad = 4 * half.prod() - _overlap(boxes, plot) + _overlap(boxes, taken)
        best = int(np.argmax(bad <= bad.min() + 1e-6))
        right_px, up_px = away.reshape(-1, 2)[best].tolist()
        found[int(i)] = Label(right_px, up_px, best >= 2 * len(_DIRECTIONS))
        taken = np.concatenate([taken, boxes[best : best + 1]])
    return [found[i] for i in range(len(names))]


def _around(middles: Boxes, half: float | Boxes) -> Boxes:
    """Returns left, bottom, right and top of each box."""
    return np.concatenate([middles - half, middles + half], axis=1)


def _overlap(boxes: Boxes, others: Boxes) -> Boxes:
    """Returns the area of each box that others cover."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    area: Boxes = np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)
    return area


def along_steps(corners: Places, count: int = 12) -> Iterator[tuple[float, float]]:
    """Yields points of a line that goes right, then up or down, from corner to corner."""
    for (x0, y0), (x1, y1) in pairwise(corners):
        for i in range(count):
            yield x0 + (x1 - x0) * i / count, y0
            yield x1, y0 + (y1 - y0) * i / count


def named(names: Sequence[str], places: Places, others: Places) -> dict[str, Json]:
    """Returns the part of a layout that names points, as wide as a page or as a phone.

    Where there are more than can be told apart, none is named.

    Args:
        names: The names, not yet cut.
        places: Each one's point, in the units of linear axes; logarithms of logarithmic ones.
        others: Further points, which names should not cover, likewise.
    """
    if not 0 < len(names) <= _MOST_NAMED:
        return {}
    every = np.array([*places, *others])
    span = np.ptp(every, axis=0)
    scaled = (every - every.min(axis=0)) / np.where(span > 0, span, 1.0)

    def annotations(size_px: tuple[float, float], font_px: float) -> list[dict[str, Json]]:
        # Axes reach somewhat beyond the data.
        px = (np.array(size_px) * (0.1 + 0.8 * scaled)).tolist()
        cut = [short(name, _LONGEST) for name in names]
        placed = labels(cut, px[: len(names)], px[len(names) :], size_px, font_px)
        return [
            {
                "x": x, "y": y, "text": label(name, _LONGEST),
                "ax": one.right_px, "ay": -one.up_px, "arrowhead": 0, "arrowwidth": 1,
                "arrowcolor": LIGHT.muted if one.is_apart else "rgba(0,0,0,0)",
                "standoff": _POINT_PX, "font": {"color": LIGHT.ink, "size": font_px},
            }
            for name, (x, y), one in zip(cut, places, placed, strict=True)
        ]  # fmt: skip

    narrow = annotations(_PHONE_PX, 11)
    return {"annotations": annotations(_PAGE_PX, 12), "meta": {"narrow": narrow}}


def draw_names(axes: Axes, names: Sequence[str], places: Places, others: Places) -> None:
    """Names points of matplotlib's axes whose limits and place in the figure are settled."""
    if not names:
        return
    dpi = axes.figure.get_dpi()
    low, size = axes.bbox.min, axes.bbox.size
    px = axes.transData.transform([*places, *others]) - low
    rest = px[len(names) :]
    near = rest[((rest >= 0) & (rest <= size)).all(axis=1)].tolist()
    cut = [short(name, _LONGEST) for name in names]
    font_px = _LETTERS_PT * dpi / 72
    placed = labels(cut, px[: len(names)].tolist(), near, (size[0], size[1]), font_px)
    line = {"arrowstyle": "-", "color": "0.45", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}
    for name, place, one in zip(cut, places, placed, strict=True):
        axes.annotate(
            name, place, xytext=(one.right_px, one.up_px), textcoords="offset pixels",
            fontsize=_LETTERS_PT, zorder=4, ha="center", va="center", parse_math=False,
            arrowprops=line if one.is_apart else None,
        )  # fmt: skip
