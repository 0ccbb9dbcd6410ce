"""Energy over time: what was metered, else what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skipc.tools.trace.columns import Columns, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Something that adds up over time: straight between its knots, flat beyond them.

    Attributes:
        time_s: The knots; never going back.
        total: What had come together until then.
    """

    time_s: Floats
    total: Floats

    @property
    def span_s(self) -> float:
        """From the first knot to the last."""
        return float(self.time_s[-1] - self.time_s[0])

    def added(self, from_s: Floats, to_s: Floats) -> Floats:
        """Returns what was added in each interval."""
        until, before = (np.interp(at, self.time_s, self.total) for at in (to_s, from_s))
        return np.asarray(until - before, float)


def metered_curve(columns: Columns) -> Curve | None:
    """Returns the energy that the meter counted, in joules.

    A meter moves in steps, and calls between two steps all note the same value. The knots are
    where it moved; what came before the first step cannot be dated, so it is left out.

    Returns:
        None without a meter, or if it never moved on.
    """
    known = ~np.isnan(columns.metered_mj)
    time_s, total_j = columns.end_s[known], columns.metered_mj[known] / 1000
    steps = np.diff(total_j)
    if not (steps > 0).any() or (steps < 0).any():
        return None
    moved = np.flatnonzero(steps) + 1
    if len(moved) == 1:
        moved = np.array([0, len(total_j) - 1])
    curve = Curve(time_s[moved], total_j[moved])
    return curve if curve.span_s > 0 else None


def expected_curve(columns: Columns) -> Curve | None:
    """Returns the energy that the calls were expected to take, in joules.

    What is taken between calls is not in it.

    Returns:
        None without calls, or where the energy of some was not known.
    """
    if not len(columns) or not (columns.energy_mj > 0).all():
        return None
    return _per_call(columns, columns.energy_mj / 1000)


def call_curve(columns: Columns) -> Curve | None:
    """Returns the number of calls; None without any."""
    return _per_call(columns, np.ones(len(columns))) if len(columns) else None


def _per_call(columns: Columns, added: Floats) -> Curve | None:
    """Returns the curve that each call raises while it runs."""
    before_s = np.concatenate(([-np.inf], columns.end_s[:-1]))
    start_s = np.clip(columns.start_s, before_s, columns.end_s)
    total = np.cumsum(added)
    curve = Curve(
        np.stack([start_s, columns.end_s], 1).ravel(),
        np.stack([total - added, total], 1).ravel(),
    )
    return curve if curve.span_s > 0 else None


def mean_power_w(columns: Columns) -> tuple[float | None, bool]:
    """Returns the mean power, and whether it was metered; None where nothing is known."""
    metered = metered_curve(columns)
    curve = expected_curve(columns) if metered is None else metered
    if curve is None:
        return None, False
    return float(curve.total[-1] - curve.total[0]) / curve.span_s, metered is not None
