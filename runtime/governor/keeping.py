"""A decision kept for further calls, as long as ``decide`` would make the same one.

What runs is the best that the ceiling admits. It runs again while it fits the budget and
nothing that is more accurate, and fits too, may be climbed to. How many fit is told by the
predictions of one moment, in order: mostly all move alike, by slow-down and tail. Where they
do not, it is told only if it comes out the same for all that they may have moved by.
Under an energy per inference two configurations take turns; which two, is the same between two
values of the balance.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, final

from .account import BURST_CALLS
from .averages import best_mix
from .decision import CLIMB_MARGIN
from .latency import HELD_UP, predict_logs
from .operating_point import DEVIATIONS_AT_99, spread_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .budget import Budget
    from .decision import Ceiling, Decision
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

    above_mj: float
    below_mj: float
    excess_mj: float


@final
class Kept:
    """What must not change for a decision to be made again. Not for several threads at once.

    Under an energy budget there are two decisions, one for each of those that take turns.
    ``logs`` are the predictions of the points in ``reaching``, those that are accurate enough.
    """

    __slots__ = (
        *("_above", "_below", "_better", "_decisions", "_fitting", "_limit", "_logs"),
        *("_moves", "_own", "_reach", "_rival", "_start", "_state", "_tail_above"),
        *("_tail_below", "_turns", "_waiting", "budget", "used"),
    )

    def __init__(
        self,
        budget: Budget,
        state: State,
        reaching: Sequence[OperatingPoint],
        logs: Sequence[float],
        turns: _Turns | None,
    ) -> None:
        self.budget, self._state, self._turns = budget, state, turns
        latency, rank = state.latency, state.ceiling.rank
        ranked = [(log, point.rank) for log, point in zip(logs, reaching, strict=True)]
        self._logs = sorted(logs)
        self._better = sorted(log for log, other in ranked if other > rank)
        self._own, *rivals = sorted(log for log, other in ranked if other == rank)
        # Were one of these faster than what runs, it would run.
        self._rival = min((*rivals[:1], *self._better[:1]), default=math.inf)
        self._limit = math.inf if budget.latency_ms is None else math.log(budget.latency_ms)
        self._reach = budget.deviations / DEVIATIONS_AT_99
        learnt = self._reach * latency.tail
        self._start = latency.log_slowdown + learnt
        self._moves = min(self._limit, self._rival) < math.inf
        self._tail_above, self._tail_below = _alike(reaching, budget.deviations, learnt)
        self._above, self._below = math.inf, -math.inf
        self._fitting, self._waiting = bisect_right(self._logs, self._limit), 0
        self._decisions: dict[int, Decision] = {}
        self.used = False
        """Whether one was made again."""

    def stands(self, state: State, now_s: float) -> bool:
        """Tells whether one of the decisions would be made again, or one alike of its turn."""
        latency, energy, ceiling, account = state
        then = self._state
        if (
            ceiling is not then.ceiling
            or energy.call_mj is not then.energy.call_mj
            or latency.held_ms
            or (latency.stalls.stalled > 1 and _stalls_count(latency, self.budget))
        ):
            return False
        if self._moves:
            learnt = self._reach * latency.tail
            if (
                self._tail_above < learnt < self._tail_below
                and latency.log_residuals is then.latency.log_residuals
            ):
                moved = latency.log_slowdown + learnt
                if not self._above <= moved <= self._below and not self._counted(moved, moved):
                    return False
            elif not self._counted(*self._moved(latency, then.latency)):
                return False
            if self._waiting and self._may_climb(latency, ceiling, now_s):
                return False
        turns = self._turns
        if turns is None or account is None:
            return turns is None and account is None
        return turns.above_mj < account.energy_mj < turns.below_mj

    def _moved(self, latency: LatencyEstimate, then: LatencyEstimate) -> tuple[float, float]:
        """Returns where slow-down and tail may have moved predictions, at least and most."""
        shift = latency.log_slowdown - then.log_slowdown
        learnt = self._reach * (latency.tail - then.tail)
        most, before, loose = latency.most_beyond, then.most_beyond, 0.0
        if most != before:
            loose = abs(most - before)
        residuals, known = latency.log_residuals, then.log_residuals
        if residuals is not known:
            loose += max(abs(residuals[name] - known[name]) for name in residuals)
        shift += self._start
        return shift + min(learnt, 0.0) - loose, shift + max(learnt, 0.0) + loose

    def _counted(self, least: float, most: float) -> bool:
        """Counts what fits; tells whether it is the same wherever predictions have moved to.

        And whether what runs is among it, and still faster than what would run instead.
        """
        room = self._limit + self._start
        low, high = room - most - _ROUNDING, room - least + _ROUNDING
        fitting = bisect_right(self._logs, low)
        if bisect_right(self._logs, high) != fitting or self._own > low:
            return False
        if most - least + _ROUNDING >= self._rival - self._own:
            return False
        waiting = bisect_right(self._better, low)
        if self._turns is not None and (waiting or fitting != self._fitting):
            return False
        self._fitting, self._waiting = fitting, waiting
        slower = self._logs[fitting] if fitting < len(self._logs) else math.inf
        self._above = room - slower + _ROUNDING
        self._below = room - self._logs[fitting - 1] - _ROUNDING
        return True

    def _may_climb(self, latency: LatencyEstimate, ceiling: Ceiling, now_s: float) -> bool:
        """Tells whether something that waits may be admitted."""
        seen, quantile = (latency.observed, latency.shifted), self.budget.quantile
        if not ceiling.may_rise(now_s, *seen, quantile):
            return False
        least, _ = self._moved(latency, self._state.latency)
        return self._better[0] + least - self._start <= self._limit - CLIMB_MARGIN + _ROUNDING

    def decision(self, state: State) -> Decision | None:
        """Returns the decision in a state in which it stands; None if it was not added yet.

        It is as ``decide`` makes it there, but for its ``predicted_ms``.
        """
        self.used = True
        turns, account, fitting = self._turns, state.account, self._fitting
        if turns is not None and account is not None:
            return self._decisions.get(account.energy_mj >= turns.excess_mj)
        decision = self._decisions.get(fitting)
        if decision is None and self._decisions:
            alike, waiting = next(iter(self._decisions.values())), self._waiting
            binding = "latency" if waiting or fitting < len(self._logs) else ""
            decision = replace(alike, fitting=fitting, waiting=waiting, binding=binding)
            self._decisions[fitting] = decision
        return decision

    def add(self, state: State, decision: Decision) -> None:
        """Adds what was decided in a state in which this stands."""
        turns, account = self._turns, state.account
        if turns is None or account is None:
            self._decisions[decision.fitting] = decision
        else:
            self._decisions[account.energy_mj >= turns.excess_mj] = decision


@final
class Keeper:
    """Keeps a decision that may be made again. Not for several threads at once."""

    def __init__(self) -> None:
        self._kept: Kept | None = None
        self._pause = self._paused = 0

    def forget(self) -> None:
        """Keeps nothing any more: the points are others."""
        self._kept = None

    def again(self, budget: Budget, state: State, now_s: float) -> Decision | None:
        """Returns what ``decide`` would return, as ``Kept.decision``; None if that is open."""
        kept = self._kept
        if kept is None or budget is not kept.budget or not kept.stands(state, now_s):
            return None
        return kept.decision(state)

    def take(
        self,
        decision: Decision,
        points: Sequence[OperatingPoint],
        budget: Budget,
        state: State,
        now_s: float,
        steady: bool,
    ) -> None:
        """Keeps what was decided in ``state``, if it may be and is ``steady`` otherwise."""
        kept = self._kept
        if kept is None or budget is not kept.budget or not kept.stands(state, now_s):
            if kept is not None:
                self._pause = 0 if kept.used else min(2 * self._pause + 1, _LONGEST_PAUSE)
                self._paused = 0
            self._paused += 1
            tried = steady and self._paused > self._pause
            kept = keep(decision, points, budget, state) if tried else None
        if kept is not None:
            kept.add(state, decision)
        self._kept = kept


def keep(
    decision: Decision, points: Sequence[OperatingPoint], budget: Budget, state: State
) -> Kept | None:
    """Returns how long a decision in ``state`` may be kept; None where any call may change it.

    It then has to be added. The ceiling must be what the decision makes of it.
    """
    latency = state.latency
    late = not decision.fitting or decision.loading
    if late or latency.held_ms or _stalls_count(latency, budget):
        return None  # what is late is looked at anew
    floor = budget.min_accuracy
    reaching = [point for point in points if floor is None or point.rank >= floor]
    logs = predict_logs(reaching, latency, budget.deviations)
    if state.account is None:
        return Kept(budget, state, reaching, logs, None)
    limit_ms = math.inf if budget.latency_ms is None else budget.latency_ms
    log_limit = math.log(limit_ms)
    fitting = [point for point, log in zip(reaching, logs, strict=True) if log <= log_limit]
    if any(point.rank > state.ceiling.rank for point in fitting):
        return None
    turns = _turns(fitting, state)
    return None if turns is None else Kept(budget, state, reaching, logs, turns)


def _alike(
    points: Sequence[OperatingPoint], deviations: float, learnt: float
) -> tuple[float, float]:
    """Returns between what the tail is learnt while it moves all predictions alike.

    No interval if it does not now.
    """
    near, far = spread_of(deviations)
    beyond = [near * point.log_slope + far * point.log_tail_slope for point in points]
    bounded = [own for own, point in zip(beyond, points, strict=True) if not point.upto_ms]
    most = max(bounded, default=0.0)
    above = _ROUNDING - min(beyond)
    below = HELD_UP - most - _ROUNDING  # ``most_beyond`` is never less
    return (above, below) if most < HELD_UP and above < learnt < below else (0.0, 0.0)


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
    return _Turns(above_mj, below_mj, excess_mj)
