"""Which configuration meets the average budgets now.

For each budget: what a call of a configuration takes beyond its grant, the mix of two that
takes no more on average (``mixing``), and which of the two has its turn: the dearer one as
soon as its excess has been saved up (``account``). That spreads it as evenly as can be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .account import BURST_CALLS
from .latency import typical_ms
from .mixing import best_mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .account import Account
    from .operating_point import OperatingPoint
    from .state import State

BUSY = 0.95
"""The share of its time that a caller spends in calls, from which on it leaves no pause."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one average budget lets run now.

    Attributes:
        index: The configuration, by index.
        partner: What it alternates with, by index; ``index`` if nothing.
        binding: The budget: ``energy``, ``power`` or ``battery``.
        limit: What it grants: millijoules per call, or watts.
        feasible: Whether it can be met.
    """

    index: int
    partner: int
    binding: str
    limit: float
    feasible: bool

    @property
    def alone(self) -> bool:
        """Whether it alternates with nothing."""
        return self.partner == self.index


def turn(points: Sequence[OperatingPoint], state: State) -> Turn | None:
    """Returns what the tightest of the account's budgets lets run.

    Args:
        points: Those that may run; at least one.
        state: What was learnt and spent.

    Returns:
        None where no average budget limits anything, or no energy is known. Power limits
        nothing before the second call: what a call adds to it depends on the calls' pace.
    """
    account, call_mj = state.account, state.energy.call_mj
    if account is None or not call_mj:
        return None
    budget = account.budget
    energies_mj = [call_mj[point.configuration] for point in points]
    ranks = [point.rank for point in points]
    turns = []
    if budget.energy_mj is not None:
        limit_mj, balance_mj = budget.energy_mj, account.energy_mj
        excesses_mj = [mj - limit_mj for mj in energies_mj]
        burst_mj = BURST_CALLS * limit_mj
        turns.append(
            _turn("energy", limit_mj, excesses_mj, ranks, balance_mj, burst_mj, BURST_CALLS)
        )
    powers = []
    paced = account.period_s > 0
    if paced and budget.power_w is not None and budget.window_s is not None:
        burst_mj = budget.power_w * budget.window_s * 1000
        powers.append(("power", budget.power_w, account.power_mj, burst_mj, budget.window_s))
    if paced and budget.energy_j is not None and account.remaining_s > 0:
        left = account.battery_mj, math.inf, account.remaining_s
        powers.append(("battery", account.battery_w, *left))
    if powers:
        running_ms = typical_ms(points, state.latency)
        periods_ms = _periods_ms(points, running_ms, account, state)
        mean_s, idle_w = sum(periods_ms) / len(periods_ms) / 1000, state.energy.idle_w
        for binding, limit_w, balance_mj, burst_mj, over_s in powers:
            excesses_mj = [
                mj + idle_w * (period_ms - ms) - limit_w * period_ms  # W x ms = mJ
                for mj, period_ms, ms in zip(energies_mj, periods_ms, running_ms, strict=True)
            ]
            calls = max(over_s / mean_s, 1.0)
            turns.append(
                _turn(binding, limit_w, excesses_mj, ranks, balance_mj, burst_mj, calls)
            )
    if len(turns) < 2:
        return turns[0] if turns else None
    return min(turns, key=lambda found: (energies_mj[found.index], found.feasible))


def _periods_ms(
    points: Sequence[OperatingPoint],
    running_ms: Sequence[float],
    account: Account,
    state: State,
) -> Sequence[float]:
    """Returns how long each would take from its start to the next call's start.

    A caller that leaves no pause is expected to call again at once, whatever runs; any
    other to keep its pace.
    """
    pace_ms, last = account.period_s * 1000, state.latency.configuration
    for point, ran_ms in zip(points, running_ms, strict=True):
        if point.configuration == last and ran_ms >= BUSY * pace_ms:
            return running_ms
    return [max(ms, pace_ms) for ms in running_ms]


def _turn(
    binding: str,
    limit: float,
    excesses_mj: Sequence[float],
    ranks: Sequence[float],
    balance_mj: float,
    burst_mj: float,
    calls: float,
) -> Turn:
    """Returns whose turn it is under one budget.

    Args:
        binding: The budget.
        limit: What it grants.
        excesses_mj: What a call of each takes beyond that.
        ranks: The accuracy of each.
        balance_mj: What was saved up; below zero what is owed.
        burst_mj: The most that may be owed.
        calls: Over how many calls that is to be used up.
    """
    paid_back_mj = balance_mj / calls
    mix = best_mix([excess - paid_back_mj for excess in excesses_mj], ranks)
    if mix is None or balance_mj <= -burst_mj:
        cheapest = min(range(len(ranks)), key=lambda i: (excesses_mj[i], -ranks[i]))
        return Turn(cheapest, cheapest, binding, limit, excesses_mj[cheapest] <= 0)
    if mix.high != mix.low and balance_mj >= excesses_mj[mix.high]:
        return Turn(mix.high, mix.low, binding, limit, feasible=True)
    return Turn(mix.low, mix.high, binding, limit, feasible=True)
