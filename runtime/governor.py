"""The governor: which configuration runs next. Pure functions over frozen values.

Predicted latency of a configuration = its table's ``p95_ms`` x the shared slow-down x its
own residual. ``observe`` learns both factors from what calls really took, compared with the
table's ``p50_ms``:

- The *slow-down* is shared by all configurations (a hot CPU slows all of them), so what one
  shows moves the predictions of the others. It goes half the way to the median of the last
  three measurements: a single outlier moves nothing, a lasting change counts from its second
  call on.
- The *residual* is what a configuration alone deviates by. It learns only from the first
  call after a switch, where two configurations were seen one after the other; a change over
  time on one configuration says nothing about it. It takes a tenth of the deviation, which
  counts as twofold at most. The residuals' geometric mean stays 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .budget import Budget

SLOWDOWN_GAIN = 0.5
SLOWDOWN_LIMIT = 1e4
RESIDUAL_GAIN = 0.1
RESIDUAL_STEP_LIMIT = 2.0
RESIDUAL_LIMIT = 8.0
_REMEMBERED = 3
_TINY_MS = 1e-9


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One configuration, with what the governor knows of it before it ever ran.

    Attributes:
        configuration: Its name.
        rank: Higher is more accurate: the accuracy, or the MACs where accuracies are
            missing (see ``operating_points``).
        p50_ms: Median latency.
        p95_ms: 95th percentile of the latency, which is what a budget is compared with.
        source: Where the latency is from: ``table``, ``front`` or ``macs``.
        weights_bytes: Bytes of weights that its engine refers to.
        own_bytes: Those of them that no other engine refers to.
    """

    configuration: str
    rank: float
    p50_ms: float
    p95_ms: float
    source: str = "table"
    weights_bytes: int = 0
    own_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What was learnt from the calls so far.

    Attributes:
        slowdown: Measured over tabled latency, shared by all configurations.
        residuals: What each configuration alone deviates by, by name.
        recent: The last measurements over the table and the residual, oldest first.
        configuration: What ran last; empty before the first call.
    """

    slowdown: float
    residuals: Mapping[str, float]
    recent: tuple[float, ...]
    configuration: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Which configuration runs, and why.

    Attributes:
        configuration: Its name.
        predicted_ms: The latency it is expected to stay below, in 95 of 100 calls.
        feasible: Whether that is within the budget.
        reason: A sentence for people.
    """

    configuration: str
    predicted_ms: float
    feasible: bool
    reason: str


def first_estimate(points: Sequence[OperatingPoint]) -> Estimate:
    """Returns the estimate before any call.

    A table measured on this host is trusted until two calls say otherwise. Without one, the
    first call sets the slow-down at once, whatever the scale of ``p50_ms``.
    """
    recent = (1.0,) * (_REMEMBERED - 1) if _measured(points) else ()
    return Estimate(1.0, {point.configuration: 1.0 for point in points}, recent)


def estimate_after(
    points: Sequence[OperatingPoint], warm_up_ms: Mapping[str, float]
) -> Estimate:
    """Returns the estimate after the warm-up calls, which count only where no table does.

    Args:
        points: The configurations.
        warm_up_ms: What the last warm-up call of a configuration took; may be empty.
    """
    estimate = first_estimate(points)
    if _measured(points):
        return estimate
    for point in points:
        if point.configuration in warm_up_ms:
            estimate = observe(point, estimate, warm_up_ms[point.configuration])
    return estimate


def _measured(points: Sequence[OperatingPoint]) -> bool:
    return any(point.source == "table" for point in points)


def predict_ms(point: OperatingPoint, estimate: Estimate) -> float:
    """Returns the latency that ``point`` is expected to stay below, in 95 of 100 calls."""
    return point.p95_ms * estimate.slowdown * estimate.residuals[point.configuration]


def decide(
    points: Sequence[OperatingPoint],
    budget: Budget,
    estimate: Estimate,
    pinned: str | None = None,
) -> Decision:
    """Returns which of ``points`` runs next.

    That is the most accurate one whose predicted latency is within the budget; of equally
    accurate ones the one predicted to be faster; of equal ones the first. Where none fits,
    the one predicted to be fastest runs and ``feasible`` is False. ``pinned`` overrides the
    choice, not ``feasible``.

    Args:
        points: At least one.
        budget: What the call may take.
        estimate: What was learnt; has a residual for each point.
        pinned: The name of the point that must run, or None.
    """
    limit_ms = math.inf if budget.latency_ms is None else budget.latency_ms
    slowdown, residuals = estimate.slowdown, estimate.residuals
    best: OperatingPoint | None = None
    fastest = points[0]
    best_ms = fastest_ms = math.inf
    fitting = 0
    for point in points:
        name = point.configuration
        predicted_ms = point.p95_ms * slowdown * residuals[name]
        if name == pinned:
            feasible = predicted_ms <= limit_ms
            reason = f"{name!r} is pinned: {predicted_ms:.3g} ms predicted."
            return Decision(name, predicted_ms, feasible, reason)
        if predicted_ms < fastest_ms or (
            predicted_ms == fastest_ms and point.rank > fastest.rank
        ):
            fastest, fastest_ms = point, predicted_ms
        if predicted_ms <= limit_ms:
            fitting += 1
            if (
                best is None
                or point.rank > best.rank
                or (point.rank == best.rank and predicted_ms < best_ms)
            ):
                best, best_ms = point, predicted_ms
    if best is None:
        name = fastest.configuration
        reason = (
            f"nothing fits {limit_ms:g} ms; {name!r} is predicted to be the fastest,"
            f" {fastest_ms:.3g} ms."
        )
        return Decision(name, fastest_ms, False, reason)
    name = best.configuration
    if budget.latency_ms is None:
        reason = f"{name!r} is the best configuration, and there is no latency budget."
    else:
        reason = (
            f"{name!r} is the best of the {fitting} of {len(points)} that fit {limit_ms:g} ms:"
            f" {best_ms:.3g} ms predicted."
        )
    return Decision(name, best_ms, True, reason)


def observe(point: OperatingPoint, estimate: Estimate, latency_ms: float) -> Estimate:
    """Returns ``estimate`` with one more measurement of ``point``.

    Args:
        point: What ran.
        estimate: What was learnt before.
        latency_ms: What the call took; at least zero.
    """
    name = point.configuration
    expected_ms = max(point.p50_ms * estimate.residuals[name], _TINY_MS)
    seen = _clamp(latency_ms / expected_ms, SLOWDOWN_LIMIT)
    if not estimate.recent:
        return Estimate(seen, estimate.residuals, (seen,), name)
    recent = (*estimate.recent[1 - _REMEMBERED :], seen)
    typical = sorted(recent)[(len(recent) - 1) // 2]
    slowdown = estimate.slowdown + SLOWDOWN_GAIN * (typical - estimate.slowdown)
    residuals = estimate.residuals
    if estimate.configuration and estimate.configuration != name:
        residuals = _with_deviation(residuals, name, seen / estimate.slowdown)
    return Estimate(slowdown, residuals, recent, name)


def _with_deviation(
    residuals: Mapping[str, float], name: str, deviation: float
) -> dict[str, float]:
    moved = dict(residuals)
    moved[name] *= _clamp(deviation, RESIDUAL_STEP_LIMIT) ** RESIDUAL_GAIN
    mean = math.prod(moved.values()) ** (1 / len(moved))
    return {key: _clamp(value / mean, RESIDUAL_LIMIT) for key, value in moved.items()}


def _clamp(ratio: float, limit: float) -> float:
    return min(max(ratio, 1 / limit), limit)
