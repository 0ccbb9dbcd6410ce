"""A decision kept for further calls, as long as ``decide`` would make the same one.

A predicted latency changes with slow-down, tail, scatter and residual, none of which moves it
by more than itself. So while they have together moved by less than the nearest prediction was
away from what it is compared with, every comparison comes out as before.
Under an energy per inference two configurations take turns; which two, is the same between two
values of the balance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, final

from .account import BURST_CALLS
from .averages import best_mix
from .latency import predict_logs
from .operating_point import DEVIATIONS_AT_99

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .budget import Budget
    from .decision import Decision
    from .latency import LatencyEstimate
    from .operating_point import OperatingPoint
    from .transitions import State

_LONGEST_PAUSE = 63
"""Most decisions after which it is tried again to keep one, where none was made again."""
_ROUNDING = 1e-9
_INSIDE = 0.01
"""How far from its ends an interval of balances is looked at, as a share of it."""


class _Turns(NamedTuple):
    """Two configurations that take turns while the balance is within an interval.

    The dearer one runs once ``excess_mj`` is saved, which is what it takes beyond the grant.
    """

    call_mj: Mapping[str, float]
    above_mj: float
    below_mj: float
    excess_mj: float


@final
class Kept:
    """What must not change for a decision to be made again. Not for several threads at once.

    Under an energy budget there are two decisions, one for each of those that take turns.
    """

    __slots__ = (
        *("_budget", "_decisions", "_most", "_points", "_reach", "_room", "_state", "_turns"),
        "used",
    )

    def __init__(
        self,
        points: Sequence[OperatingPoint],
        budget: Budget,
        state: State,
        room: float,
        turns: _Turns | None,
    ) -> None:
        self._points, self._budget, self._state = points, budget, state
        self._reach = budget.deviations / DEVIATIONS_AT_99
        self._most, self._room, self._turns = state.latency.most_beyond, room, turns
        self._decisions: list[Decision | None] = [None, None]
        self.used = False
        """Whether one was made again."""

    def holds(self, points: Sequence[OperatingPoint], budget: Budget, state: State) -> bool:
        """Tells whether one of the decisions would be made again."""
        latency, _, ceiling, account = state
        then, _, ceiling_then, _ = self._state
        if (
            points is not self._points
            or budget is not self._budget
            or ceiling is not ceiling_then
            or latency.held_ms
            or (latency.stalls.stalled > 1 and _stalls_count(latency, budget))
        ):
            return False
        if self._room < math.inf and self._moved(latency, then) >= self._room:
            return False
        turns = self._turns
        if turns is None or account is None:
            return turns is None and account is None
        if state.energy.call_mj is not turns.call_mj:
            return False
        return turns.above_mj < account.energy_mj < turns.below_mj

    def _moved(self, latency: LatencyEstimate, then: LatencyEstimate) -> float:
        """Returns by how much predictions may have moved, at most."""
        moved = abs(latency.log_slowdown - then.log_slowdown)
        moved += self._reach * abs(latency.tail - then.tail)
        most = latency.most_beyond
        if most != self._most:
            moved += abs(most - self._most)
        residuals, before = latency.log_residuals, then.log_residuals
        if residuals is not before:
            moved += max(abs(residuals[name] - before[name]) for name in residuals)
        return moved

    def decision(self, state: State) -> Decision | None:
        """Returns the decision in a state that this holds for, as ``decide`` made it there.

        Its ``predicted_ms`` is of the first time. None the first time that it is asked for.
        """
        self.used = True
        return self._decisions[0 if self._turns is None else self._dearer(state)]

    def add(self, state: State, decision: Decision) -> None:
        """Adds what was decided in a state that this holds for."""
        self._decisions[self._dearer(state)] = decision

    def _dearer(self, state: State) -> bool:
        turns, account = self._turns, state.account
        if turns is None or account is None:
            return False
        return account.energy_mj >= turns.excess_mj


@final
class Keeper:
    """Keeps a decision that may be made again. Not for several threads at once."""

    def __init__(self) -> None:
        self._kept: Kept | None = None
        self._pause = self._paused = 0

    def decision(
        self, points: Sequence[OperatingPoint], budget: Budget, state: State
    ) -> Decision | None:
        """Returns what ``decide`` would return, as ``Kept.decision``; None if that is open."""
        kept = self._kept
        if kept is None or not kept.holds(points, budget, state):
            return None
        return kept.decision(state)

    def take(
        self,
        decision: Decision,
        points: Sequence[OperatingPoint],
        budget: Budget,
        state: State,
        steady: bool,
    ) -> None:
        """Keeps what was decided in ``state``, if it may be and is ``steady`` otherwise."""
        kept = self._kept
        if kept is None or not kept.holds(points, budget, state):
            if kept is not None:
                self._pause = 0 if kept.used else min(2 * self._pause + 1, _LONGEST_PAUSE)
                self._paused = 0
            self._paused += 1
            tried = steady and self._paused > self._pause
            kept = keep(points, budget, state) if tried else None
        if kept is not None:
            kept.add(state, decision)
        self._kept = kept


def keep(points: Sequence[OperatingPoint], budget: Budget, state: State) -> Kept | None:
    """Returns how long a decision in ``state`` may be kept; None where any call may change it.

    It then has to be added.
    """
    latency, ceiling = state.latency, state.ceiling
    floor = budget.min_accuracy
    reaching = [point for point in points if floor is None or point.rank >= floor]
    if latency.held_ms or _stalls_count(latency, budget):
        return None
    logs = predict_logs(reaching, latency, budget.deviations)
    limit_ms = math.inf if budget.latency_ms is None else budget.latency_ms
    log_limit = math.log(limit_ms)
    fitting = [point for point, log in zip(reaching, logs, strict=True) if log <= log_limit]
    rank = ceiling.rank if limit_ms == ceiling.limit_ms else math.inf
    if not fitting or any(point.rank > rank for point in fitting):
        return None  # what is late, or waits, is looked at anew
    room, fastest = math.inf, dict[float, float]()
    for point, log in zip(reaching, logs, strict=True):
        other = fastest.setdefault(point.rank, log)
        if limit_ms < math.inf:
            room = min(room, abs(log - log_limit))
        if other is not log:  # of equally accurate ones the faster runs
            room = min(room, abs(log - other) / 2)
            fastest[point.rank] = min(log, other)
    room -= _ROUNDING
    if room <= 0:
        return None
    if state.account is None:
        return Kept(points, budget, state, room, None)
    turns = _turns(fitting, state)
    return None if turns is None else Kept(points, budget, state, room, turns)


def _stalls_count(latency: LatencyEstimate, budget: Budget) -> bool:
    """Tells whether predictions count stalls, or are about to."""
    stalls = latency.stalls
    return stalls.stalled > 1 and stalls.exceed(0.99 * (1 - budget.quantile))


def _turns(points: Sequence[OperatingPoint], state: State) -> _Turns | None:
    """Returns who takes turns around the present balance; see ``averages``.

    Between two neighbouring excesses which configurations stay within the grant is the same,
    and so is the best mix where it is the same near both ends: it is a linear programme, and
    where one basis is the best it is so in an interval. None where it is not, or there are
    other averages than an energy per inference.
    """
    account, energy = state.account, state.energy
    if account is None or not energy.call_mj or not energy.scaled:
        return None
    granted_mj = account.budget.energy_mj
    if granted_mj is None or any(limit is not None for limit in account.budget.averages[1:]):
        return None
    burst_mj = BURST_CALLS * granted_mj
    own_mj = [energy.call_mj[point.configuration] - granted_mj for point in points]
    possible_mj = [math.inf if mj > burst_mj else mj for mj in own_mj]
    paid_mj = account.energy_mj / BURST_CALLS
    low_mj = max((mj for mj in possible_mj if mj <= paid_mj), default=-math.inf)
    high_mj = min((mj for mj in possible_mj if mj > paid_mj), default=math.inf)
    # A balance is bounded by the burst, of which a call's share is the grant.
    low_mj, high_mj = max(low_mj, -granted_mj), min(high_mj, 2 * granted_mj)
    inside_mj = _INSIDE * (high_mj - low_mj)
    ends_mj = low_mj + inside_mj, high_mj - inside_mj
    if not ends_mj[0] < paid_mj < ends_mj[1]:
        return None
    ranks = [point.rank for point in points]
    low, high = (best_mix([mj - at for mj in possible_mj], ranks) for at in ends_mj)
    if low is None or high is None or low[:2] != high[:2]:
        return None
    excess_mj = math.inf if low.high == low.low else own_mj[low.high]
    above_mj, below_mj = (BURST_CALLS * mj for mj in ends_mj)
    return _Turns(energy.call_mj, above_mj, below_mj, excess_mj)
