"""Which configuration, and which bias of its router, meets a mean latency now.

What was saved lately may be spent: a call may take the average, and a share of the balance of
``account``. So what the curves of routers promise is corrected by what calls took. Where no
configuration has a router it is all of the balance: they take turns, the dearer one as soon as
its excess has been saved up.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from .account import BURST_CALLS
from .operating_point import OnAverage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .operating_point import OperatingPoint
    from .transitions import State


class Best(NamedTuple):
    """The most accurate that meets a mean latency.

    Attributes:
        chosen: The configuration, by index.
        bias: What its router is moved to; None where it has none.
        rank: How accurate it is then.
        mean_ms: What it takes then, on average.
        limit_ms: What the budget grants.
        feasible: Whether that is expected to be met in the long run.
    """

    chosen: int
    bias: float | None
    rank: float
    mean_ms: float
    limit_ms: float
    feasible: bool


def best_on_average(points: Sequence[OperatingPoint], state: State) -> Best | None:
    """Returns what runs under the budget's mean latency; None where it has none.

    Where nothing meets it now, that is what takes least on average. No bias moves a route
    below the accuracy that the budget asks for.
    """
    account = state.account
    if account is None or account.budget.average_latency_ms is None:
        return None
    limit_ms = account.budget.average_latency_ms
    calls = BURST_CALLS if any(point.curve for point in points) else 1
    now_ms = limit_ms + account.latency_ms / calls
    floor = account.budget.min_accuracy
    floor = -math.inf if floor is None else floor
    ways = [_within(point, _factor(point, state), now_ms, floor) for point in points]
    meeting = [index for index, way in enumerate(ways) if way.mean_ms <= now_ms]
    if meeting:
        index = max(meeting, key=lambda each: (ways[each].rank, -ways[each].mean_ms))
    else:
        index = min(range(len(ways)), key=lambda each: (ways[each].mean_ms, -ways[each].rank))
    least_ms = min(_within(p, _factor(p, state), 0.0, floor).mean_ms for p in points)
    bias = ways[index].bias if points[index].curve else None
    rank, mean_ms = ways[index].rank, ways[index].mean_ms
    return Best(index, bias, rank, mean_ms, limit_ms, least_ms <= limit_ms)


def _factor(point: OperatingPoint, state: State) -> float:
    """Returns what calls of a configuration take now, over its table."""
    latency = state.latency
    return math.exp(latency.log_slowdown + latency.log_residuals[point.configuration])


def _within(
    point: OperatingPoint, factor: float, granted_ms: float, floor: float
) -> OnAverage:
    """Returns the smallest bias with which a route takes no more, between two of its curve.

    Where none does, that is the one that takes least. ``factor`` is what it takes over its
    table; ranks below the ``floor`` do not count.
    """
    alone = OnAverage(0.0, point.rank, point.mean_ms or point.p50_ms)
    reaching = [each for each in point.curve if each.rank >= floor]
    curve = [each._replace(mean_ms=factor * each.mean_ms) for each in reaching or (alone,)]
    if curve[0].mean_ms <= granted_ms:
        return curve[0]
    for before, at in pairwise(curve):
        if at.mean_ms <= granted_ms < before.mean_ms:
            share = (before.mean_ms - granted_ms) / (before.mean_ms - at.mean_ms)
            return OnAverage(*(a + share * (b - a) for a, b in zip(before, at, strict=True)))
    return min(curve, key=lambda each: each.mean_ms)
