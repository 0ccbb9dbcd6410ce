"""Names of a chart's points: none lies on another or on a point, however close these are."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipc.tools.web.labels import along_steps, labels, named

SIZE_PX = (760.0, 340.0)
FONT_PX = 12.0
# Twelve configurations, some nearly equal, along a front that grows flat.
FRONT = [
    *((10, 20), (12, 25), (14, 26), (60, 100), (140, 200), (145, 201), (170, 215)),
    *((230, 250), (236, 251), (290, 256), (600, 260), (740, 330)),
]

Box = tuple[float, float, float, float]


def _boxes(names: list[str], points: list[tuple[float, float]]) -> list[Box]:
    """Returns left, bottom, right and top of each name, letters 0.6 of the font wide."""
    lines = list(along_steps(points))
    boxes = []
    for name, (x, y), one in zip(
        names, points, labels(names, points, lines, SIZE_PX, FONT_PX), strict=True
    ):
        wide, high = 0.3 * FONT_PX * len(name), 0.5 * FONT_PX
        middle = x + one.right_px, y + one.up_px
        boxes.append((middle[0] - wide, middle[1] - high, middle[0] + wide, middle[1] + high))
    return boxes


def _meet(one: Box, other: Box) -> bool:
    across = one[0] < other[2] and other[0] < one[2]
    return across and one[1] < other[3] and other[1] < one[3]


def _check(names: list[str], points: list[tuple[float, float]]) -> None:
    boxes = _boxes(names, points)
    assert not any(_meet(one, other) for one, other in combinations(boxes, 2))
    assert not any(_meet(box, (x, y, x, y)) for box in boxes for x, y in points)
    assert all(box[0] >= 0 and box[2] <= SIZE_PX[0] for box in boxes)


def test_names_of_a_crowded_front_keep_apart() -> None:
    _check([f"skip{i}" for i in range(12)], FRONT)


places = st.tuples(st.floats(60, SIZE_PX[0] - 60), st.floats(40, SIZE_PX[1] - 40))


@settings(max_examples=30)
@given(st.lists(places, max_size=7))
def test_names_of_any_points_keep_apart(points: list[tuple[float, float]]) -> None:
    _check([f"skip{i}" for i in range(len(points))], sorted(points))


def test_equal_points_have_lines_to_their_names() -> None:
    points = [(380.0, 170.0)] * 12
    names = [f"skip{i}" for i in range(12)]
    _check(names, points)
    placed = labels(names, points, [], SIZE_PX, FONT_PX)
    assert not placed[0].is_apart
    assert placed[-1].is_apart


@pytest.mark.parametrize(
    ("count", "are_named"), [(0, False), (1, True), (14, True), (15, False)]
)
def test_more_than_can_be_told_apart_are_not_named(count: int, are_named: bool) -> None:
    names = [f"<b>{i}" for i in range(count)]
    layout = named(names, [(float(i), 1.0) for i in range(count)], [])
    assert ("annotations" in layout) == are_named
    if are_named:
        assert "<b>" not in str(layout)
