"""Fewer points for a picture, with every extreme still in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.tools.trace.columns import Floats, Indices


def thinned(
    time_s: Floats, groups: Indices, values: Sequence[Floats], at_most: int
) -> Indices:
    """Returns which points to draw, in ascending order.

    Time is cut into columns, as many as fit; of each group in each column the points with the
    least, the median and the greatest of each value are kept. So the least and greatest of
    everything are, too.

    Args:
        time_s: When each point was; never going back.
        groups: What is told apart, by a number from 0.
        values: Arrays with a value per point; no NaN.
        at_most: How many points may be drawn. Only where a single column has more extremes
            than this are there more.
    """
    count = len(time_s)
    if count <= at_most:
        return np.arange(count)
    span_s = float(time_s[-1] - time_s[0])
    place = (time_s - time_s[0]) / span_s if span_s > 0 else np.zeros(count)
    orders = [np.argsort(value, kind="stable") for value in values]
    columns = at_most
    while True:
        column = np.minimum((place * columns).astype(np.intp), columns - 1)
        cells = column * (int(groups.max()) + 1) + groups
        kept = np.unique(np.concatenate([_marks(cells, order) for order in orders]))
        if len(kept) <= at_most or columns == 1:
            return kept
        columns //= 2


def _marks(cells: Indices, order: Indices) -> Indices:
    """Returns the first, the middle and the last point of each cell, in an order by value."""
    order = order[np.argsort(cells[order], kind="stable")]
    new = np.flatnonzero(np.diff(cells[order])) + 1
    first = np.concatenate(([0], new))
    last = np.concatenate((new - 1, [len(order) - 1]))
    marks: Indices = order[np.concatenate((first, (first + last) // 2, last))]
    return marks
