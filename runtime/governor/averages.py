"""Which configuration meets the average budgets now.

For each budget: what a call of a configuration takes beyond its grant, the mix of two that
takes no more on average, and which of the two has its turn: the dearer one as soon as its
excess has been saved up (``account``). That spreads it as evenly as can be.

Why two: let a call of configuration i exceed what is granted per call by x_i (negative: it
stays below), with accuracy a_i. The shares w_i that maximise the mean accuracy, sum w_i a_i,
while sum w_i x_i <= 0, are a linear programme with one constraint besides sum w_i = 1; so two
configurations suffice: the neighbours, on the concave hull of the front, of what is granted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .account import BURST_CALLS
from .latency import typical_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .account import Account
    from .operating_point import OperatingPoint
    from .transitions import State

BUSY = 0.95
"""The share of its time that a caller spends in calls, from which on it leaves no pause."""
_SAME = 1e-12
"""Mean ranks this close are equal; neighbours are then preferred, as they spread better."""


class Mix(NamedTuple):
    """Two configurations, by index, whose mix meets the average.

    Attributes:
        low: The one that stays within what is granted.
        high: The one that exceeds it, and is more accurate; ``low`` again where ``low``
            alone is the best.
        share: The share of the calls that may run ``high``.
    """

    low: int
    high: int
    share: float


def best_mix(excesses: Sequence[float], ranks: Sequence[float]) -> Mix | None:
    """Returns the mix of highest mean rank whose mean excess is at most 0.

    ``excesses`` is what a call takes beyond what is granted. None where all are above 0.
    """
    within = [index for index, excess in enumerate(excesses) if excess <= 0]
    if not within:
        return None
    alone = max(within, key=lambda index: (ranks[index], -excesses[index]))
    low = high = alone
    best_rank, best_gap, best_share = ranks[alone], 0.0, 0.0
    for above, excess in enumerate(excesses):
        rank = ranks[above]
        if excess <= 0 or rank <= ranks[alone]:
            continue
        for index in within:
            gap = excess - excesses[index]
            share = -excesses[index] / gap
            better = ranks[index] + share * (rank - ranks[index]) - best_rank
            if better > _SAME or (better > -_SAME and best_gap > gap):
                low, high, best_share, best_gap = index, above, share, gap
                best_rank += better
    return Mix(low, high, best_share)


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


@dataclass(frozen=True, slots=True)
class _Grant:
    """One average budget, as it stands.

    Attributes:
        binding: Its name.
        limit: What it grants: millijoules per call, or watts.
        excesses_mj: What a call of each configuration takes beyond that.
        balance_mj: What was saved up; below zero what is owed.
        burst_mj: The most that may be saved or owed.
        calls: Over how many calls a balance is to be used up.
        paced: Whether the excesses can be told: power's depend on the calls' pace.
    """

    binding: str
    limit: float
    excesses_mj: Sequence[float]
    balance_mj: float
    burst_mj: float
    calls: float
    paced: bool = True

    def admits(self, index: int) -> bool:
        """Tells whether a configuration takes no more than is granted or was saved."""
        excess_mj = self.excesses_mj[index]
        return excess_mj <= 0 or self.balance_mj >= excess_mj

    def turn(self, ranks: Sequence[float]) -> Turn:
        """Returns whose turn it is under this budget alone."""
        paid_back_mj = self.balance_mj / self.calls
        mix = best_mix(
            [  # what cannot be saved up for has no turn
                math.inf if excess > self.burst_mj else excess - paid_back_mj
                for excess in self.excesses_mj
            ],
            ranks,
        )
        if mix is None or self.balance_mj <= -self.burst_mj:
            cheapest = min(range(len(ranks)), key=lambda i: (self.excesses_mj[i], -ranks[i]))
            feasible = self.excesses_mj[cheapest] <= 0 or not self.paced
            return Turn(cheapest, cheapest, self.binding, self.limit, feasible)
        index, partner = mix.low, mix.high
        if mix.high != mix.low and self.balance_mj >= self.excesses_mj[mix.high]:
            index, partner = mix.high, mix.low
        return Turn(index, partner, self.binding, self.limit, feasible=True)


def turn(points: Sequence[OperatingPoint], state: State) -> Turn | None:
    """Returns what the average budgets let run: the most accurate that all of them admit.

    None where no average budget limits anything, or no energy is known.
    """
    account, energy = state.account, state.energy
    if account is None or not energy.call_mj or not energy.scaled:
        return None
    ranks = [point.rank for point in points]
    grants = _grants(points, account, state)
    if len(grants) < 2:
        return grants[0].turn(ranks) if grants else None
    turns = [grant.turn(ranks) for grant in grants]
    indices = range(len(points))
    admitted = [index for index in indices if all(grant.admits(index) for grant in grants)]
    tightest = min(turns, key=lambda found: (ranks[found.index], found.feasible))
    if tightest.index in admitted:
        return tightest
    feasible = all(found.feasible for found in turns)
    if admitted:
        index = max(admitted, key=lambda each: ranks[each])
    else:  # each is overdrawn somewhere: the one that overdraws least, of its burst
        index = min(
            indices,
            key=lambda each: max(g.excesses_mj[each] / g.burst_mj for g in grants),
        )
        feasible &= all(grant.excesses_mj[index] <= 0 for grant in grants)
    return Turn(index, index, tightest.binding, tightest.limit, feasible)


def long_run(points: Sequence[OperatingPoint], state: State) -> tuple[Mix, bool] | None:
    """Returns the mix that the average budgets come to, and whether they are met by it.

    What was saved of an average lately is spent within a few calls, and does not count; what
    was saved of a battery does. Of several budgets the one counts that allows least. None as
    for ``turn``.
    """
    account, energy = state.account, state.energy
    if account is None or not energy.call_mj or not energy.scaled:
        return None
    ranks = [point.rank for point in points]
    found: list[tuple[float, Mix, bool]] = []
    settled = account._replace(energy_mj=0.0, power_mj=0.0)
    for grant in _grants(points, settled, state):
        paid_back_mj = grant.balance_mj / grant.calls
        excesses_mj = [excess - paid_back_mj for excess in grant.excesses_mj]
        mix = best_mix(excesses_mj, ranks)
        if mix is None:
            cheapest = min(range(len(ranks)), key=lambda i: (excesses_mj[i], -ranks[i]))
            found.append((ranks[cheapest], Mix(cheapest, cheapest, 0.0), not grant.paced))
        else:
            mean = ranks[mix.low] + mix.share * (ranks[mix.high] - ranks[mix.low])
            found.append((mean, mix, True))
    if not found:
        return None
    _, mix, _ = min(found)
    return mix, all(feasible for _, _, feasible in found)


def _grants(
    points: Sequence[OperatingPoint], account: Account, state: State
) -> Sequence[_Grant]:
    budget, call_mj = account.budget, state.energy.call_mj
    energies_mj = [call_mj[point.configuration] for point in points]
    found = []
    if budget.energy_mj is not None:
        limit_mj = budget.energy_mj
        excesses_mj = [mj - limit_mj for mj in energies_mj]
        burst_mj = BURST_CALLS * limit_mj
        found.append(
            _Grant("energy", limit_mj, excesses_mj, account.energy_mj, burst_mj, BURST_CALLS)
        )
    powers = []
    if budget.power_w is not None and budget.window_s is not None:
        burst_mj = budget.power_w * budget.window_s * 1000
        powers.append(("power", budget.power_w, account.power_mj, burst_mj, budget.window_s))
    if budget.energy_j is not None and account.remaining_s > 0:
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
            calls, paced = max(over_s / mean_s, 1.0), account.period_s > 0
            found.append(
                _Grant(binding, limit_w, excesses_mj, balance_mj, burst_mj, calls, paced)
            )
    return found


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
