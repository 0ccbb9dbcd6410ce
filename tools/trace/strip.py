"""Which configuration ran when: shares of evenly spaced moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skipc.tools.trace.columns import Columns, Flags, Floats

BRIDGED = 5.0
"""A pause shorter than this many usual intervals between calls does not show."""


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Time in columns of one width.

    Attributes:
        edges_s: Where the columns begin and end.
        shares: Of each configuration in each column, between 0 and 1; NaN where none ran.
        infeasible: Whether a call in the column had a budget that nothing could meet.
    """

    edges_s: Floats
    shares: Floats
    infeasible: Flags

    @property
    def infeasible_spans_s(self) -> list[tuple[float, float]]:
        """Beginning and end of each stretch of infeasible calls."""
        padded = np.concatenate(([False], self.infeasible, [False]))
        turns = self.edges_s[np.flatnonzero(np.diff(padded))]
        return [(float(a), float(b)) for a, b in zip(turns[::2], turns[1::2], strict=True)]


def usual_interval_s(columns: Columns) -> float:
    """Returns the median time between two calls; 0 for fewer than two."""
    return float(np.median(np.diff(columns.end_s))) if len(columns) > 1 else 0.0


def strip_of(columns: Columns, count: int) -> Strip:
    """Returns ``count`` columns; there must be a call, and time must pass."""
    first_s, last_s = columns.extent_s
    edges_s = np.linspace(first_s, last_s, count + 1)
    # An interval lasts until the next call begins, unless that is a pause.
    next_s = np.append(columns.start_s[1:], columns.end_s[-1])
    bridged = next_s - columns.end_s <= BRIDGED * usual_interval_s(columns)
    end_s = np.where(bridged, np.maximum(next_s, columns.end_s), columns.end_s)
    end_s = np.maximum(end_s, columns.start_s + (last_s - first_s) / count)
    start_s, end_s = columns.start_s - first_s, end_s - first_s
    covered = np.stack(
        [
            _covered(start_s[own], end_s[own], edges_s - first_s)
            for own in (columns.chosen == i for i in range(len(columns.configurations)))
        ]
    )
    least = 1e-6 * (last_s - first_s) / count
    covered[covered < least] = 0.0  # what rounding leaves of nothing
    total = covered.sum(0)
    none = np.full_like(covered, np.nan)
    shares = np.divide(covered, total, out=none, where=total > 0)
    bad = ~columns.feasible
    infeasible = _covered(start_s[bad], end_s[bad], edges_s - first_s) > least
    return Strip(edges_s, shares, infeasible)


def _covered(start_s: Floats, end_s: Floats, edges_s: Floats) -> Floats:
    """Returns how much of each column the intervals cover, overlaps counted each time."""
    until = _ramps(start_s, edges_s) - _ramps(end_s, edges_s)
    return np.maximum(np.diff(until), 0.0)


def _ramps(from_s: Floats, at_s: Floats) -> Floats:
    """Returns the sum of max(0, at - from) over all ``from_s``."""
    ordered = np.sort(from_s)
    sums = np.concatenate(([0.0], np.cumsum(ordered)))
    begun = np.searchsorted(ordered, at_s)
    return begun * at_s - sums[begun]
