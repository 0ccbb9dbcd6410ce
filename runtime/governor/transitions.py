"""What decisions depend on, from one state to the next: a call is chosen, ends, is metered."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from .account import (
    Account,
    Pace,
    call_begins,
    call_ends,
    call_took,
    corrected,
    reopen_account,
)
from .decision import Ceiling, ceiling_after
from .energy import first_energy, observe_energy, with_configuration
from .latency import first_estimate, observe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .budget import Budget
    from .decision import Decision
    from .energy import EnergyEstimate, Spent
    from .latency import LatencyEstimate
    from .operating_point import OperatingPoint

_MJ_PER_WS = 1000.0


class State(NamedTuple):
    """What was learnt and spent until now.

    Attributes:
        latency: How long calls take.
        energy: How much energy they take.
        ceiling: What the latency budget admits.
        account: What the average budgets granted and what was spent; None without one.
    """

    latency: LatencyEstimate
    energy: EnergyEstimate
    ceiling: Ceiling
    account: Account | None = None


def first_state(
    points: Sequence[OperatingPoint],
    warm_up_ms: Mapping[str, float] | None = None,
    metered: bool = False,
    idle_w: float | None = None,
) -> State:
    """Returns the state before any call.

    Args:
        points: The configurations.
        warm_up_ms: What the last warm-up call of a configuration took, by name; counts only
            where there is no table.
        metered: Whether a meter's readings will follow.
        idle_w: What the device draws while nothing runs; None if nobody measured it.
    """
    latency, energy = first_estimate(points, warm_up_ms), first_energy(points, metered, idle_w)
    return State(latency, energy, Ceiling())


def with_point(state: State, points: Sequence[OperatingPoint], point: OperatingPoint) -> State:
    """Returns the state with one more configuration beside ``points``, not yet learnt of."""
    residuals = {**state.latency.log_residuals, point.configuration: 0.0}
    latency = state.latency._replace(log_residuals=residuals)
    energy = with_configuration(state.energy, points, point)
    return state._replace(latency=latency, energy=energy)


def before_choice(state: State, budget: Budget, now_s: float, idle_s: float) -> State:
    """Returns the state in which the next call is decided: with what time has granted.

    Nothing ran for ``idle_s`` before this call.
    """
    if not budget.has_average:
        return state if state.account is None else state._replace(account=None)
    account = state.account
    if account is None:
        account, idle_s = Account(budget, now_s, now_s), 0.0
    elif not account.is_of(budget):
        account = reopen_account(account, budget, now_s)
    idle_mj = idle_s * state.energy.idle_w * _MJ_PER_WS
    account = call_begins(account, now_s, idle_mj)
    return State(state.latency, state.energy, state.ceiling, account)


def after_choice(
    state: State,
    budget: Budget,
    decision: Decision,
    now_s: float,
    deadline_ms: float | None = None,
) -> State:
    """Returns the state after ``decision``: what the latency budget admits from now on.

    A deadline of a single call says nothing about the next one.
    """
    if deadline_ms is not None or decision.pinned:
        return state
    limit_ms = math.inf if budget.latency_ms is None else budget.latency_ms
    observed = state.latency.observed
    ceiling = ceiling_after(state.ceiling, limit_ms, decision.ceiling, now_s, observed)
    return state if ceiling is state.ceiling else state._replace(ceiling=ceiling)


def after_refusal(state: State, before: State) -> State:
    """Returns the state after a call that was refused: only time went by.

    ``before`` is the state before ``before_choice``.
    """
    if state.account is None:
        return state
    pace = Pace() if before.account is None else before.account.pace
    return state._replace(account=state.account._replace(pace=pace))


def after_call(
    state: State,
    budget: Budget,
    point: OperatingPoint,
    latency_ms: float | None,
    spent_mj: float,
    now_s: float,
    idle_s: float = 0.0,
    stage: int = -1,
    failed: bool = False,
    took_ms: float = 0.0,
) -> State:
    """Returns the state after a call of ``point`` that is expected to have spent ``spent_mj``.

    ``latency_ms`` is None where what it took says nothing about the configuration; ``stage``
    is the one that it reached. Nothing ran for ``idle_s`` between the choice and the call. One
    that ``failed`` spent energy; but being no inference, it earns no grant of energy per
    inference. ``took_ms`` is what it took, whatever that says about the configuration.
    """
    latency, energy, ceiling, account = state
    if latency_ms is not None:
        quantile, deviations = budget.quantile, budget.deviations
        latency = observe(point, latency, latency_ms, quantile, deviations, stage)
    if account is not None:
        if failed:
            account = corrected(account, spent_mj, 0.0)
        else:
            idle_mj = idle_s * energy.idle_w * _MJ_PER_WS
            account = call_ends(account, now_s, spent_mj, idle_mj)
        account = call_took(account, took_ms)
    return tuple.__new__(State, (latency, energy, ceiling, account))


def after_reading(state: State, spent: Spent, measured_mj: float) -> State:
    """Returns the state after the meter said what an interval took.

    ``spent`` is what was charged for it.
    """
    energy = observe_energy(state.energy, spent, measured_mj)
    account = state.account
    if account is not None:
        expected_mj = spent.total_mj
        beyond_mj = measured_mj - expected_mj
        running = sum(spent.calls_mj.values()) / expected_mj if expected_mj > 0 else 0.0
        account = corrected(account, running * beyond_mj, (1 - running) * beyond_mj)
    return State(state.latency, energy, state.ceiling, account)
