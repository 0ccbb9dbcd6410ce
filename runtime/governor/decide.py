"""The governor: which configuration runs next, as a pure function."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from .averages import turn
from .decision import CLIMB_MARGIN, Decision
from .latency import predict_logs, stages_ms, typical_ms
from .mean_latency import best_on_average
from .stalls import kept_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .budget import Budget
    from .operating_point import OperatingPoint
    from .transitions import State

_Candidate: TypeAlias = "tuple[OperatingPoint, float]"
"""A point, and the logarithm of the latency in ms that it is expected to stay within."""
AS_MANY = 0.99
"""What keeps this share of the calls that can be kept keeps as many ..."""
LEAST_KEPT = 1e-3
"""... and less than this share of all calls is none."""


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
    ones the first. Where none fits and the budget is hard, routes fit whose first answer does.
    Where none fits still, ``feasible`` is False and the one runs that is expected to keep the
    most calls within the budget: what keeps nearly as many counts as such, so that stalls
    which hit all alike cost no accuracy.
    Average budgets choose among those that fit (``averages.turn``). ``pinned`` overrides the
    choice, not ``feasible``.

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
    if not fitting and budget.hard:
        fitting = _answering(candidates, state, deviations, limit_ms)
        counts = len(fitting), len(candidates)
    if not fitting:
        return _late(candidates, state, budget.quantile, limit_ms)
    admitted = _admitted(fitting, state, budget.quantile, limit_ms, now_s)
    chosen = _most_accurate(admitted)
    ceiling = chosen[0].rank
    waiting = 0 if admitted is fitting else sum(p.rank > ceiling for p, _ in fitting)
    if state.account is not None:
        points = [point for point, _ in admitted]
        on_average = best_on_average(points, state)
        if on_average is not None:
            chosen, ranks = admitted[on_average.chosen], [point.rank for point in points]
            free = on_average.feasible and on_average.rank >= max(ranks)
            binding, limit = ("", 0.0) if free else ("average latency", on_average.limit_ms)
            decision = _decision(
                *(chosen, state, on_average.feasible, binding, limit, *counts),
                ceiling=ceiling,
            )
            mean_ms = on_average.mean_ms
            return replace(decision, bias=on_average.bias, typical_ms=mean_ms)
        found = turn(points, state)
        if found is not None:
            chosen = admitted[found.index]
            if not (found.feasible and found.alone and chosen[0].rank >= ceiling):
                partner = "" if found.alone else points[found.partner].configuration
                bound = found.feasible, found.binding, found.limit
                return _decision(chosen, state, *bound, *counts, partner, ceiling)
    binding = "latency" if waiting or len(fitting) < len(candidates) else ""
    return _decision(chosen, state, True, binding, limit_ms, *counts, waiting=waiting)


def _answering(
    candidates: list[_Candidate], state: State, deviations: float, limit_ms: float
) -> list[_Candidate]:
    """Returns the routes whose first answer is predicted to be there in time."""
    log_limit = math.log(limit_ms)
    return [
        (point, log_limit)
        for point, _ in candidates
        if point.upto_ms
        and stages_ms(point, state.latency, deviations)[point.first_answer] <= limit_ms
    ]


def _late(
    candidates: list[_Candidate], state: State, quantile: float, limit_ms: float
) -> Decision:
    """Returns the decision where none is in time as surely as the quantile says."""
    latency, points = state.latency, [point for point, _ in candidates]
    level, scatter, _ = latency.next_phase
    medians_ms = typical_ms(points, latency._replace(log_slowdown=level))
    kept = [
        kept_share(point, ms, scatter, latency.stalls, limit_ms)
        for point, ms in zip(points, medians_ms, strict=True)
    ]
    indices, most = range(len(points)), max(kept)
    if most >= LEAST_KEPT:
        enough = most * max(AS_MANY, quantile)
        as_many = [index for index in indices if kept[index] >= enough]
        index = max(as_many, key=lambda index: (points[index].rank, kept[index]))
        share = min(kept[index], quantile)
    else:
        index = min(indices, key=lambda index: (medians_ms[index], -points[index].rank))
        share = 0.0
    counts = 0, len(points)
    late = _decision(candidates[index], state, False, "latency", limit_ms, *counts)
    return replace(late, typical_ms=medians_ms[index], kept=share)


def _pinned(
    point: OperatingPoint, budget: Budget, state: State, log_limit: float, configurations: int
) -> Decision:
    """Returns the decision for what the caller has chosen: whether it meets the budget."""
    log = predict_logs((point,), state.latency, budget.deviations)[0]
    found = None if state.account is None else turn((point,), state)
    meets = (found is None or found.feasible) and log <= log_limit
    reaches = budget.min_accuracy is None or point.rank >= budget.min_accuracy
    feasible, counts = meets and reaches, (0, configurations)
    return _decision((point, log), state, feasible, "", 0.0, *counts, pinned=True)


def _admitted(
    fitting: list[_Candidate], state: State, quantile: float, limit_ms: float, now_s: float
) -> list[_Candidate]:
    latency, ceiling = state.latency, state.ceiling
    rank = ceiling.rank if limit_ms == ceiling.limit_ms else math.inf
    if all(point.rank <= rank for point, _ in fitting):
        return fitting
    rises = ceiling.may_rise(now_s, latency.observed, latency.shifted, quantile)
    climb = math.log(limit_ms) - CLIMB_MARGIN if rises else -math.inf
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
    pinned: bool = False,
    waiting: int = 0,
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
        pinned,
        waiting,
    )
