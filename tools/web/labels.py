"""Where the names of a chart's points go: no name on another, none on a point."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.web.chart import label
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from matplotlib.axes import Axes

    from skipc.tools.web.chart import Json

    _Box = tuple[float, float, float, float]

# Away from a front first, where nothing is; then beside, then below.
_DIRECTIONS = ((-1, 1), (0, 1), (-1, 0), (1, -1), (1, 1), (1, 0), (0, -1), (-1, -1))
_GAP_PX = 5.0
_POINT_PX = 7.0
_OBSTACLE_PX = 3.0
_STEP_PX = 9.0
_STEPS = 16
_MOST_NAMED = 14
_LETTERS_PT = 8
_PAGE_PX, _PHONE_PX = (760, 340), (280, 320)
LONGEST = 14
"""Letters of a name beside a point."""
_LETTER = 0.6
"""A letter's width over the font's size."""


@dataclass(frozen=True, slots=True)
class Label:
    """A name beside its point.

    Attributes:
        right_px: From the point to the middle of the name.
        up_px: Likewise.
        is_apart: Whether a line has to lead from the point to it.
    """

    right_px: float
    up_px: float
    is_apart: bool


def labels(
    names: Sequence[str],
    points_px: Sequence[tuple[float, float]],
    obstacles_px: Sequence[tuple[float, float]],
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
    taken = [_around(x, y, _POINT_PX) for x, y in points_px]
    taken += [_around(x, y, _OBSTACLE_PX) for x, y in obstacles_px]
    found = {}
    # From the upper left on, since names go there.
    order = sorted(range(len(names)), key=lambda i: (points_px[i][0] - points_px[i][1], i))
    for i in order:
        x, y = points_px[i]
        half_wide, half_high = max(len(names[i]), 1) * _LETTER * font_px / 2, 0.6 * font_px
        best = None
        for step, (right, up) in product(range(_STEPS), _DIRECTIONS):
            away = _GAP_PX + step * _STEP_PX
            dx, dy = right * (half_wide + away), up * (half_high + away)
            box = (
                *(x + dx - half_wide, y + dy - half_high),
                *(x + dx + half_wide, y + dy + half_high),
            )
            outside = 4 * half_wide * half_high - _overlap(box, (0.0, 0.0, *size_px))
            bad = outside + sum(_overlap(box, other) for other in taken)
            if best is None or bad < best[0] - 1e-6:
                best = (bad, Label(dx, dy, step > 1), box)
            if best[0] <= 1e-6:
                break
        assert best is not None
        found[i] = best[1]
        taken.append(best[2])
    return [found[i] for i in range(len(names))]


def _around(x: float, y: float, radius: float) -> _Box:
    return x - radius, y - radius, x + radius, y + radius


def _overlap(one: _Box, other: _Box) -> float:
    """Returns the area that two boxes have in common."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def along_steps(
    corners: Sequence[tuple[float, float]], count: int = 12
) -> Iterator[tuple[float, float]]:
    """Yields points of a line that goes right, then up or down, from corner to corner."""
    for (x0, y0), (x1, y1) in pairwise(corners):
        for i in range(count):
            yield x0 + (x1 - x0) * i / count, y0
            yield x1, y0 + (y1 - y0) * i / count


def annotations_of(
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    others: Iterable[tuple[float, float]],
    size_px: tuple[float, float],
    font_px: float = 12,
) -> list[dict[str, Json]]:
    """Returns Plotly's annotations that name points.

    Args:
        names: The names, not yet cut.
        places: Each one's point, in the units of linear axes; logarithms of logarithmic ones.
        others: Further points, which names should not cover, likewise.
        size_px: Width and height of the plot.
        font_px: The letters' size.
    """
    if not names:
        return []
    rest = list(others)
    every = [*places, *rest]
    low = [min(place[k] for place in every) for k in (0, 1)]
    span = [max(place[k] for place in every) - low[k] or 1.0 for k in (0, 1)]
    # Axes reach somewhat beyond the data.
    scaled = [
        tuple(size_px[k] * (0.1 + 0.8 * (place[k] - low[k]) / span[k]) for k in (0, 1))
        for place in every
    ]
    px = [(x, y) for x, y in scaled]
    count = len(names)
    cut = [short(name, LONGEST) for name in names]
    placed = labels(cut, px[:count], px[count:], size_px, font_px)
    return [
        {
            "x": place[0], "y": place[1], "text": label(text, LONGEST),
            "showarrow": one.is_apart,
            **(
                {"ax": one.right_px, "ay": -one.up_px, "arrowhead": 0, "arrowwidth": 1,
                 "arrowcolor": LIGHT.muted, "standoff": _POINT_PX}
                if one.is_apart
                else {"xshift": one.right_px, "yshift": one.up_px}
            ),
            "font": {"color": LIGHT.ink, "size": font_px},
        }
        for text, place, one in zip(cut, places, placed, strict=True)
    ]  # fmt: skip


def named(
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    others: Sequence[tuple[float, float]],
) -> dict[str, Json]:
    """Returns the part of a layout that names points, as wide as a page or as a phone.

    Where there are more than can be told apart, none is named.
    """
    if len(names) > _MOST_NAMED:
        return {}
    return {
        "annotations": annotations_of(names, places, others, _PAGE_PX),
        "meta": {"narrow": annotations_of(names, places, others, _PHONE_PX, 11)},
    }


def draw_names(
    axes: Axes,
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    others: Sequence[tuple[float, float]],
) -> None:
    """Names points of axes whose limits and place in the figure are settled.

    Args:
        axes: Where the points are.
        names: The names.
        places: Each one's point.
        others: Further points, which names should not cover.
    """
    if not names:
        return
    dpi = axes.figure.get_dpi()
    low, size = axes.bbox.min, axes.bbox.size
    px = [tuple(point) for point in axes.transData.transform([*places, *others]) - low]
    near = [at for at in px[len(names) :] if 0 <= at[0] <= size[0] and 0 <= at[1] <= size[1]]
    cut = [short(name, LONGEST) for name in names]
    placed = labels(cut, px[: len(names)], near, (size[0], size[1]), _LETTERS_PT * dpi / 72)
    line = {"arrowstyle": "-", "color": "0.45", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}
    for name, place, one in zip(cut, places, placed, strict=True):
        axes.annotate(
            name, place, xytext=(one.right_px, one.up_px), textcoords="offset pixels",
            fontsize=_LETTERS_PT, zorder=4, ha="center", va="center", parse_math=False,
            arrowprops=line if one.is_apart else None,
        )  # fmt: skip
