"""The governor: which configuration runs next, and why, as a pure function.

The latency budget admits up to a ceiling that has a hysteresis, so that it does not flap.
Down at once, up slowly: a configuration that no longer fits is left with the next call; one
that fits again is admitted only with a margin and after a dwell. The dwell doubles each time
that what was admitted had to be left again soon, and starts small again when it lasted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from .averages import turn
from .latency import predict_logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .budget import Budget
    from .operating_point import OperatingPoint
    from .transitions import State

_Candidate: TypeAlias = "tuple[OperatingPoint, float]"
"""A point, and the logarithm of the latency in ms that it is expected to stay within."""


CLIMB_MARGIN = 0.015
"""Logarithm of how far below the budget a prediction must be to be admitted."""
SHORTEST_DWELL_S = 0.5
LONGEST_DWELL_S = 60.0
SOON_DWELLS = 4.0


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most accurate that the latency budget admits.

    Attributes:
        limit_ms: The budget that it belongs to; another one starts anew.
        rank: The rank up to which configurations are admitted.
        climb_from_s: When more may be admitted.
        climbed_s: When more was admitted last.
        dwell_s: How long it waits after the next step down.
    """

    limit_ms: float = math.nan
    rank: float = math.inf
    climb_from_s: float = 0.0
    climbed_s: float = -math.inf
    dwell_s: float = SHORTEST_DWELL_S


def ceiling_after(ceiling: Ceiling, limit_ms: float, rank: float, now_s: float) -> Ceiling:
    """Returns the ceiling after a decision that admitted up to ``rank``."""
    if limit_ms != ceiling.limit_ms:
        return Ceiling(limit_ms, rank, now_s)
    if rank == ceiling.rank:
        return ceiling
    if rank > ceiling.rank:
        wait_s = SHORTEST_DWELL_S
        return Ceiling(limit_ms, rank, now_s + wait_s, now_s, ceiling.dwell_s)
    soon = now_s - ceiling.climbed_s < SOON_DWELLS * ceiling.dwell_s
    dwell_s = min(2 * ceiling.dwell_s, LONGEST_DWELL_S) if soon else SHORTEST_DWELL_S
    return Ceiling(limit_ms, rank, now_s + dwell_s, ceiling.climbed_s, dwell_s)


_UNITS = {"latency": "ms", "energy": "mJ", "power": "W", "battery": "W", "accuracy": ""}
"""The budgets that can bind, and the unit of each one's limit."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Which configuration runs, and why.

    Attributes:
        configuration: Its name.
        predicted_ms: The latency that it is expected to stay within, in as many calls as
            the budget's quantile says.
        feasible: Whether the budget is expected to be met.
        binding: The budget that keeps something more accurate from running: ``latency``,
            ``energy``, ``power``, ``battery`` or ``accuracy``; empty if none does.
        limit: What that budget grants, in milliseconds, millijoules per call or watts.
        predicted_mj: The energy that it is expected to take; 0 where nothing is known.
        fitting: How many configurations fit the latency budget.
        configurations: How many there are to choose from.
        partner: What it alternates with to meet an average; empty if it does not.
        ceiling: The rank up to which the latency budget admits.
        pinned: Whether the caller had chosen.
        waiting: How many more accurate ones fit, but were left lately and are admitted again
            only when that has lasted for a while.
        note: What else is to be said, as a sentence or its beginning.
        loading: Whether an engine is loaded meanwhile, which the call waits for or runs
            beside: its latency then says nothing about the configuration.
    """

    configuration: str
    predicted_ms: float
    feasible: bool
    binding: str = ""
    limit: float = 0.0
    predicted_mj: float = 0.0
    fitting: int = 0
    configurations: int = 0
    partner: str = ""
    ceiling: float = 0.0
    pinned: bool = False
    waiting: int = 0
    note: str = ""
    loading: bool = False

    @property
    def reason(self) -> str:
        """Why, as a sentence."""
        return f"{self.note} {self._choice()}" if self.note else self._choice()

    def _choice(self) -> str:
        name = repr(self.configuration)
        predicted = f"{self.predicted_ms:.3g} ms predicted"
        if self.pinned:
            return f"{name} is pinned: {predicted}."
        limit = f"{self.limit:.4g} {_UNITS[self.binding]}" if self.binding else ""
        if self.binding == "latency":
            if not self.feasible:
                return (
                    f"nothing fits {limit}; {name} is predicted to be the fastest,"
                    f" {self.predicted_ms:.3g} ms."
                )
            of = f"{self.fitting} of {self.configurations}"
            if self.waiting:
                return (
                    f"{name} is the best of the {of} that fit {limit}, but for"
                    f" {self.waiting} that must fit for a while longer: {predicted}."
                )
            return f"{name} is the best of the {of} that fit {limit}: {predicted}."
        if self.binding == "accuracy":
            return (
                f"nothing reaches the accuracy {self.limit:.4g} that is asked for; {name} is"
                " the most accurate."
            )
        if self.binding:
            what = f"the {self.binding} budget of {limit}"
            if not self.feasible:
                return (
                    f"nothing meets {what}; {name} takes the least,"
                    f" {self.predicted_mj:.3g} mJ predicted."
                )
            if self.partner:
                return f"{name} alternates with {self.partner!r} to meet {what}: {predicted}."
            return f"{name} is the best that meets {what}: {predicted}."
        return f"{name} is the best configuration, and no budget is in its way: {predicted}."


def decide(
    points: Sequence[OperatingPoint],
    budget: Budget,
    state: State,
    now_s: float = 0.0,
    pinned: str | None = None,
    deadline_ms: float | None = None,
) -> Decision:
    """Returns which of ``points``, at least one, runs next.

    Of those that reach ``min_accuracy`` and whose predicted latency is within the budget, that
    is the most accurate one; of equally accurate ones the one predicted to be faster; of equal
    ones the first. Where none fits, the one predicted to be fastest runs and ``feasible`` is
    False. Average budgets choose among those that fit (``averages.turn``). ``pinned``
    overrides the choice, not ``feasible``.

    Args:
        points: Those that may run.
        budget: What the call may take.
        state: What was learnt and spent; knows each point.
        now_s: The time, for the dwell before something more accurate is admitted.
        pinned: The name of the point that must run, or None.
        deadline_ms: What this call may take instead of ``budget.latency_ms``.
    """
    limit_ms = budget.latency_ms if deadline_ms is None else deadline_ms
    limit_ms = math.inf if limit_ms is None else limit_ms
    log_limit = math.log(limit_ms)
    latency, deviations = state.latency, budget.deviations
    if pinned is not None:
        point = next(point for point in points if point.configuration == pinned)
        return _pinned(point, budget, state, log_limit, len(points))
    floor = budget.min_accuracy
    reaching = points if floor is None else [point for point in points if point.rank >= floor]
    if floor is not None and not reaching:
        best = max(points, key=lambda point: point.rank)
        below = best, predict_logs((best,), latency, deviations)[0]
        return _decision(below, state, False, "accuracy", floor, configurations=len(points))
    logs = predict_logs(reaching, latency, deviations)
    candidates = list(zip(reaching, logs, strict=True))
    fitting = [candidate for candidate in candidates if candidate[1] <= log_limit]
    counts = len(fitting), len(candidates)
    if not fitting:
        fastest = min(candidates, key=lambda candidate: (candidate[1], -candidate[0].rank))
        return _decision(fastest, state, False, "latency", limit_ms, *counts)
    admitted = _admitted(fitting, state.ceiling, limit_ms, now_s)
    chosen = _most_accurate(admitted)
    ceiling = chosen[0].rank
    waiting = 0 if admitted is fitting else sum(p.rank > ceiling for p, _ in fitting)
    if state.account is not None:
        points = [point for point, _ in admitted]
        found = turn(points, state)
        if found is not None:
            chosen = admitted[found.index]
            if not (found.feasible and found.alone and chosen[0].rank >= ceiling):
                partner = "" if found.alone else points[found.partner].configuration
                bound = found.feasible, found.binding, found.limit
                return _decision(chosen, state, *bound, *counts, partner, ceiling)
    binding = "latency" if waiting or len(fitting) < len(candidates) else ""
    decision = _decision(chosen, state, True, binding, limit_ms, *counts)
    return replace(decision, waiting=waiting) if waiting else decision


def _pinned(
    point: OperatingPoint, budget: Budget, state: State, log_limit: float, configurations: int
) -> Decision:
    """Returns the decision for what the caller has chosen: whether it meets the budget."""
    log = predict_logs((point,), state.latency, budget.deviations)[0]
    found = None if state.account is None else turn((point,), state)
    meets = (found is None or found.feasible) and log <= log_limit
    reaches = budget.min_accuracy is None or point.rank >= budget.min_accuracy
    decision = _decision((point, log), state, meets and reaches, "", 0.0, 0, configurations)
    return replace(decision, pinned=True)


def _admitted(
    fitting: list[_Candidate], ceiling: Ceiling, limit_ms: float, now_s: float
) -> list[_Candidate]:
    rank = ceiling.rank if limit_ms == ceiling.limit_ms else math.inf
    if all(point.rank <= rank for point, _ in fitting):
        return fitting
    climb = math.log(limit_ms) - CLIMB_MARGIN if now_s >= ceiling.climb_from_s else -math.inf
    admitted = [(point, log) for point, log in fitting if point.rank <= rank or log <= climb]
    if not admitted:
        return fitting
    # Nothing is risked with what is faster than the best of these.
    climb = max(climb, _most_accurate(admitted)[1])
    return [(point, log) for point, log in fitting if point.rank <= rank or log <= climb]


def _most_accurate(candidates: list[_Candidate]) -> _Candidate:
    best = candidates[0]
    than, than_log = best
    for candidate in candidates:
        point, log = candidate
        if point.rank > than.rank or (point.rank == than.rank and log < than_log):
            best, than, than_log = candidate, point, log
    return best


def _decision(
    candidate: _Candidate,
    state: State,
    feasible: bool,
    binding: str,
    limit: float,
    fitting: int = 0,
    configurations: int = 0,
    partner: str = "",
    ceiling: float | None = None,
) -> Decision:
    point, log = candidate
    name = point.configuration
    return Decision(
        name,
        math.exp(log),
        feasible,
        binding,
        limit,
        state.energy.call_mj.get(name, 0.0),
        fitting,
        configurations,
        partner,
        point.rank if ceiling is None else ceiling,
    )
