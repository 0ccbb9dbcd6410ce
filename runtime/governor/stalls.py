"""Calls that something else held up: how many, for how long, and who is in time all the same.

The machine takes a core away, or the application collects garbage: a *stall* adds some
milliseconds to a call, the same to a fast configuration as to a slow one. So it is counted in
milliseconds and apart from the noise, which is a factor.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from .operating_point import DEVIATIONS_AT_95

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .operating_point import OperatingPoint

FIRST_CALLS = 100.0
"""How many calls without a stall are taken for granted at first."""
COUNTED_CALLS = 300.0
"""What is counted are the last calls, about so many."""
REMEMBERED = 64
_FORGOTTEN = 0.05
_NORMAL = NormalDist()


class Stalls(NamedTuple):
    """What was counted of the last calls; each counts less the longer ago it was.

    Attributes:
        calls: How many these were.
        stalled: How many of them were held up.
        shifts: How often what began like a stall was a lasting slow-down.
        held_ms: For how long the last ones were held up, oldest first.
    """

    calls: float = FIRST_CALLS
    stalled: float = 0.0
    shifts: float = 0.0
    held_ms: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        """The share of calls that are held up."""
        return min(self.stalled / self.calls, 1.0)

    @property
    def likelier(self) -> bool:
        """Whether a late call is rather a stall than the first of a lasting slow-down."""
        return self.stalled > self.shifts

    def exceed(self, share: float) -> bool:
        """Tells whether more than this share of the calls is held up; one alone is not."""
        return self.stalled - 1 > share * self.calls

    def quantile_ms(self, deviations: float) -> float:
        """Returns by how much a quantile of all calls is held up, in standard deviations.

        0 where stalls are rarer than calls beyond it.
        """
        if self.stalled <= 1 or not self.held_ms:
            return 0.0
        beyond = _NORMAL.cdf(-deviations)
        if not self.exceed(beyond):
            return 0.0
        within = max(1 - beyond / self.rate, 0.0)
        place = min(int(within * len(self.held_ms)), len(self.held_ms) - 1)
        return sorted(self.held_ms)[place]


STEADY = Stalls(COUNTED_CALLS)
"""Nothing was held up in all calls that are counted."""


def after_calls(stalls: Stalls, held_ms: Sequence[float], shifts: int = 0) -> Stalls:
    """Returns ``stalls`` after a call that was not held up, and those before that were.

    ``shifts`` is 1 where it turned out to be slower from now on.
    """
    calls, stalled, shifted, remembered = stalls
    if calls == COUNTED_CALLS and not (held_ms or shifts or stalled or shifted):
        return STEADY if not remembered else stalls
    calls += 1 + len(held_ms)
    if calls > COUNTED_CALLS:
        kept = COUNTED_CALLS / calls
        calls, stalled, shifted = COUNTED_CALLS, stalled * kept, shifted * kept
        stalled = stalled if stalled > _FORGOTTEN else 0.0
        shifted = shifted if shifted > _FORGOTTEN else 0.0
    if held_ms:
        stalled += len(held_ms)
        remembered = (*remembered, *held_ms)[-REMEMBERED:]
    return Stalls(calls, stalled, shifted + shifts, remembered)


def kept_share(
    point: OperatingPoint, typical_ms: float, scatter: float, stalls: Stalls, limit_ms: float
) -> float:
    """Returns the share of calls of ``point`` that is expected to end within a limit.

    ``typical_ms`` is its median now, ``scatter`` the standard deviation of the noise's
    logarithm. Where its own rows differ, as those of early exits do, the table says how.
    """
    room = math.log(limit_ms / typical_ms)
    near = far = scatter
    if point.upto_ms:
        near, far = max(point.log_slope, scatter), max(point.log_tail_slope, scatter)
    deviations = room / near
    if deviations > DEVIATIONS_AT_95:
        deviations = DEVIATIONS_AT_95 + (room - DEVIATIONS_AT_95 * near) / far
    kept = _NORMAL.cdf(deviations)
    if stalls.stalled > 0:
        free_ms = limit_ms - typical_ms
        held = sum(ms <= free_ms for ms in stalls.held_ms) / max(len(stalls.held_ms), 1)
        kept += stalls.rate * (min(held, kept) - kept)
    return kept
