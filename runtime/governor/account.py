"""What the average budgets granted so far, and what was spent: a token bucket for each.

Energy, power and time flow in as they are granted and out as they are spent, first by what is
expected and, once the meter was read, by what it said. A balance above zero is what may be
spent beyond the average. It is bounded both ways, so that a quiet hour does not pay for a
burst, and a burst is not paid for by an hour: by ``BURST_CALLS`` calls' grant for
``energy_mj`` and ``average_latency_ms``, by a window's for ``power_w``. A battery has no
bounds: what is saved stays.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from .budget import DEFAULT_WINDOW_S

if TYPE_CHECKING:
    from .budget import Budget

BURST_CALLS = 32
PACE_WINDOWS = 3.0
"""Over how many windows of the power the calls' pace is averaged ..."""
PACE_OF_HORIZON = 0.1
"""... or over which share of a battery's horizon."""
_MJ_PER_WS = 1000.0


class Pace(NamedTuple):
    """How often calls came lately.

    Attributes:
        calls: Each counts less the longer ago it was (``PACE_WINDOWS``).
        over_s: The time in which these were made, weighted alike.
        started_s: When the last one began; below zero before the first.
    """

    calls: float = 0.0
    over_s: float = 0.0
    started_s: float = -1.0


class Account(NamedTuple):
    """The balances of one budget's averages, in millijoules, and milliseconds.

    Attributes:
        budget: What is granted.
        opened_s: When the first call under it began.
        settled_s: Up to when time has been accounted for.
        energy_mj: Balance of ``energy_mj``.
        power_mj: Balance of ``power_w``.
        battery_mj: Balance of ``energy_j``: above zero if less was spent than its even share.
        pace: How often calls came lately.
        latency_ms: Balance of ``average_latency_ms``.
    """

    budget: Budget
    opened_s: float
    settled_s: float
    energy_mj: float = 0.0
    power_mj: float = 0.0
    battery_mj: float = 0.0
    pace: Pace = Pace()
    latency_ms: float = 0.0

    @property
    def period_s(self) -> float:
        """Mean time from one call's start to the next one's; 0 before two calls."""
        return self.pace.over_s / self.pace.calls if self.pace.calls > 0 else 0.0

    def is_of(self, budget: Budget) -> bool:
        """Tells whether ``budget`` grants the same averages."""
        return budget is self.budget or budget.averages == self.budget.averages

    @property
    def battery_w(self) -> float:
        """What ``energy_j`` grants, in watts, if it is spent evenly."""
        budget = self.budget
        if budget.energy_j is None or budget.horizon_s is None:
            return 0.0
        return budget.energy_j / budget.horizon_s

    @property
    def pace_window_s(self) -> float:
        """Over how long the calls' pace is averaged."""
        budget = self.budget
        window_s = budget.window_s or DEFAULT_WINDOW_S
        if budget.power_w is None and budget.horizon_s is not None:
            return max(PACE_OF_HORIZON * budget.horizon_s, PACE_WINDOWS * window_s)
        return PACE_WINDOWS * window_s

    @property
    def remaining_s(self) -> float:
        """How long ``energy_j`` still has to last; 0 or less once it has."""
        return (self.budget.horizon_s or 0.0) - (self.settled_s - self.opened_s)


def reopen_account(account: Account, budget: Budget, now_s: float) -> Account:
    """Returns the account of a budget that takes another one's place.

    The calls' pace stays known where time counted, and what was saved or is owed stays, within
    the new bounds. Of a battery that is no more than one call's grant: what is left of it is
    granted anew.
    """
    anew = account._replace(budget=budget, opened_s=now_s)
    if not account.budget.is_timed:
        anew = anew._replace(settled_s=now_s)
    saved_mj = 0.0 if account.budget.energy_j is None else account.battery_mj
    call_mj = anew.battery_w * anew.period_s * _MJ_PER_WS
    anew = anew._replace(battery_mj=_bounded(saved_mj, call_mj))
    energy_mj = 0.0 if account.budget.energy_mj is None else account.energy_mj
    power_mj = 0.0 if account.budget.power_w is None else account.power_mj
    return anew._replace(
        latency_ms=_bounded(
            account.latency_ms if account.budget.average_latency_ms is not None else 0.0,
            BURST_CALLS * (budget.average_latency_ms or 0.0),
        ),
        energy_mj=_bounded(energy_mj, BURST_CALLS * (budget.energy_mj or 0.0)),
        power_mj=_bounded(power_mj, _power_burst_mj(budget)),
    )


def call_begins(account: Account, now_s: float, idle_mj: float) -> Account:
    """Returns the account at the start of a call; ``idle_mj`` was spent since the last one."""
    if not account.budget.is_timed:
        return account
    calls, over_s, started_s = account.pace
    if started_s >= 0:
        # A pause saves no more than a burst: a longer one must not stretch the pace either.
        window_s = account.pace_window_s
        since_s = min(max(now_s - started_s, 0.0), window_s / PACE_WINDOWS)
        kept = math.exp(-since_s / window_s)
        calls, over_s = calls * kept + 1, over_s * kept + since_s
    return _settled(account, now_s, 0.0, idle_mj, Pace(calls, over_s, now_s))


def call_ends(
    account: Account, now_s: float, spent_mj: float, idle_mj: float = 0.0
) -> Account:
    """Returns the account after a call that is expected to have taken ``spent_mj``.

    ``idle_mj`` was taken between the choice and the call.
    """
    saved_mj = (account.budget.energy_mj or 0.0) - spent_mj
    return _settled(account, now_s, saved_mj, spent_mj + idle_mj, account.pace)


def call_took(account: Account, took_ms: float) -> Account:
    """Returns the account after a call that took so long, of the typical sizes."""
    granted_ms = account.budget.average_latency_ms
    if granted_ms is None:
        return account
    latency_ms = _bounded(account.latency_ms + granted_ms - took_ms, BURST_CALLS * granted_ms)
    return account._replace(latency_ms=latency_ms)


def corrected(account: Account, calls_mj: float, idle_mj: float) -> Account:
    """Returns the account after the meter said by how much the expected was too low.

    Calls took ``calls_mj`` beyond it, and the time in which nothing ran ``idle_mj``.
    """
    spent_mj = calls_mj + idle_mj
    return _settled(account, account.settled_s, -calls_mj, spent_mj, account.pace)


def _settled(
    account: Account, now_s: float, saved_mj: float, spent_mj: float, pace: Pace
) -> Account:
    """Returns the account after what time grants until ``now_s``, and what was spent.

    A time that lies back counts as none. The balance of ``energy_mj`` gains ``saved_mj``, the
    others lose ``spent_mj``.
    """
    budget, opened_s, settled_s, energy_mj, power_mj, battery_mj, _, latency_ms = account
    if budget.energy_mj is not None and not budget.is_timed:
        energy_mj = _bounded(energy_mj + saved_mj, BURST_CALLS * budget.energy_mj)
        return Account(
            budget, opened_s, settled_s, energy_mj, power_mj, battery_mj, pace, latency_ms
        )
    elapsed_s = now_s - settled_s if now_s > settled_s else 0.0
    if budget.energy_mj is not None:
        energy_mj = _bounded(energy_mj + saved_mj, BURST_CALLS * budget.energy_mj)
    if budget.power_w is not None:
        balance_mj = power_mj + budget.power_w * _MJ_PER_WS * elapsed_s - spent_mj
        power_mj = _bounded(balance_mj, _power_burst_mj(budget))
    if budget.energy_j is not None:
        battery_mj += account.battery_w * _MJ_PER_WS * elapsed_s - spent_mj
    settled_s += elapsed_s
    return Account(
        budget, opened_s, settled_s, energy_mj, power_mj, battery_mj, pace, latency_ms
    )


def _power_burst_mj(budget: Budget) -> float:
    return (budget.power_w or 0.0) * (budget.window_s or 0.0) * _MJ_PER_WS


def _bounded(balance: float, burst: float) -> float:
    return min(max(balance, -burst), burst)
