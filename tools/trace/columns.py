"""The calls of a trace as arrays, in the order in which they ended, and fewer of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skipc.runtime.call.trace import Trace, TracedCall, TracedConfiguration

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]
    Flags = NDArray[np.bool_]

_LAST = 1 << 62


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One entry per call in each array; times count from the opening of the engine.

    Attributes:
        configurations: The most accurate one first.
        chosen: What ran: an index into ``configurations``.
        limit_ms: What it was allowed to take; NaN for no limit.
        failed: Whether it gave no outputs.
        energy_mj: What it was expected to take; 0 if nothing was known.
        metered_mj: What the meter had counted; NaN without one.
        assumed: Whether that was not measured: a power taken for granted.
        exits: How calls were answered: ``exit 1`` and so on where a test stopped them,
            ``end`` of a route, ``deadline``; those that occur, ``end`` alone without routes.
        answered: How it was: an index into ``exits``; -1 of one that failed.
    """

    configurations: tuple[TracedConfiguration, ...]
    calls: tuple[TracedCall, ...]
    chosen: Indices
    start_s: Floats
    end_s: Floats
    latency_ms: Floats
    predicted_ms: Floats
    limit_ms: Floats
    feasible: Flags
    failed: Flags
    energy_mj: Floats
    metered_mj: Floats
    assumed: bool
    exits: tuple[str, ...]
    answered: Indices

    def __len__(self) -> int:
        return len(self.calls)

    @property
    def extent_s(self) -> tuple[float, float]:
        """When the first call began and the last one ended; equal without calls."""
        if not self.calls:
            return 0.0, 0.0
        return float(self.start_s.min()), float(self.end_s.max())


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A line over time in a panel.

    Attributes:
        label: What it is.
        time_s: Where its values are.
        values: In the panel's unit; NaN where it breaks.
        granted: Whether this is what was granted, else what was taken or predicted.
    """

    label: str
    time_s: Floats
    values: Floats
    granted: bool


def columns_of(trace: Trace) -> Columns:
    """Returns the calls of a trace as arrays."""
    configurations = tuple(sorted(trace.configurations, key=lambda each: -each.rank))
    index = {each.name: number for number, each in enumerate(configurations)}
    # Calls from several threads may be noted in another order than they ended in.
    calls = tuple(sorted(trace.calls, key=lambda call: call.time_s))
    latency_ms = np.array([call.latency_ms for call in calls], float)
    end_s = np.array([call.time_s for call in calls], float)
    names = frozenset(each.name for each in trace.configurations)
    places = [_place(call, names) for call in calls]
    exits = {name: at for at, (_, name) in enumerate(sorted({p for p in places if p}))}
    return Columns(
        configurations=configurations,
        calls=calls,
        chosen=np.array([index[call.configuration] for call in calls], np.intp),
        start_s=end_s - np.maximum(latency_ms, 0.0) / 1000,
        end_s=end_s,
        latency_ms=latency_ms,
        predicted_ms=np.array([call.predicted_ms for call in calls], float),
        limit_ms=or_nan([call.limit_ms for call in calls]),
        feasible=np.array([call.feasible for call in calls], bool),
        failed=np.array([call.failure != "" for call in calls], bool),
        energy_mj=np.array([call.energy_mj for call in calls], float),
        metered_mj=or_nan([call.metered_mj for call in calls]),
        assumed=trace.meter_estimated,
        exits=tuple(exits),
        answered=np.array([exits[p[1]] if p else -1 for p in places], np.intp),
    )


def _place(call: TracedCall, names: frozenset[str]) -> tuple[int, str] | None:
    """Returns the order among exits and the name of where a call was answered.

    That is a configuration that a router named, if it is one of ``names``.
    """
    if call.failure:
        return None
    named = set(call.route) & names - {call.configuration}
    if call.stopped_by == "end" and len(named) == 1:
        return call.stage, f"by {named.pop()}"
    if call.stopped_by == "test":
        return call.stage, f"exit {call.stage + 1}"
    return _LAST + (call.stopped_by == "deadline"), call.stopped_by


def or_nan(values: list[float | None]) -> Floats:
    """Returns the values as an array, NaN where there is none."""
    return np.array([np.nan if value is None else value for value in values], float)


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


def steps(
    time_s: Floats, values: Floats, last_s: float, at_most: int = 6000
) -> tuple[Floats, Floats]:
    """Returns the corners of a line whose values hold until the next one, thinned."""
    if not len(values):
        return np.empty(0), np.empty(0)
    order = np.argsort(time_s, kind="stable")
    values = values[order]
    before = np.concatenate(([np.inf], values[:-1]))
    same = (values == before) | (np.isnan(values) & np.isnan(before))
    changes = np.flatnonzero(~same)
    x, y = time_s[order][changes], values[changes]
    kept = thinned(x, np.zeros(len(x), np.intp), (np.nan_to_num(y, nan=-1.0),), at_most)
    return np.repeat(np.append(x[kept], last_s), 2)[1:-1], np.repeat(y[kept], 2)


def _marks(cells: Indices, order: Indices) -> Indices:
    """Returns the first, the middle and the last point of each cell, in an order by value."""
    order = order[np.argsort(cells[order], kind="stable")]
    new = np.flatnonzero(np.diff(cells[order])) + 1
    first = np.concatenate(([0], new))
    last = np.concatenate((new - 1, [len(order) - 1]))
    marks: Indices = order[np.concatenate((first, (first + last) // 2, last))]
    return marks
