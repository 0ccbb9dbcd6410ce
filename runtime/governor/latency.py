"""How long the next call of a configuration will take, learnt from the calls before.

All in logarithms. A call's latency = the table's median x the slow-down x the configuration's
residual x noise:

- The *slow-down* is shared by all configurations (a hot CPU slows all of them), so what one
  shows moves the predictions of the others. While measurements scatter around it, it follows
  them slowly; when the median of the last three is far outside of that scatter, it starts
  anew from there, as the mean of what is seen from then on. So a single outlier hardly moves
  it, and a lasting change counts from its second call on.
- The *residual* is what a configuration alone deviates by. It learns only from the first
  call after a switch, where two configurations were seen one after the other; a change over
  time on one configuration says nothing about it. It takes a tenth of the deviation, which
  counts as twofold at most. The residuals' geometric mean stays 1.
- The *scatter* is the standard deviation of the noise, and the *tail* what a budget's quantile
  lies further out than the table says. The tail is a quantile estimate by stochastic
  approximation (Robbins and Monro, 1951): a call above the prediction lifts it by as much as
  a hundred calls below lower it, if the quantile is 0.99.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from .operating_point import DEVIATIONS_AT_99, MEASURED_SOURCES, spread_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .operating_point import OperatingPoint

MEAN_OF = 30
JUMP_SCATTERS = 3.0
SCATTER_GAIN = 0.05
SMALLEST_SCATTER = 0.01
TAIL_GAIN = 0.1
TAIL_LEARNING_CALLS = 100
TABLE_CALLS = 10
"""How many calls the table stands for where the tail is learnt."""
LARGEST_TAIL = math.log(20)
SLOWDOWN_LIMIT = 1e4
RESIDUAL_GAIN = 0.1
RESIDUAL_STEP_LIMIT = 2.0
RESIDUAL_LIMIT = 8.0
_LOG_SLOWDOWN_LIMIT = math.log(SLOWDOWN_LIMIT)
_LOG_STEP_LIMIT = math.log(RESIDUAL_STEP_LIMIT)
_LOG_RESIDUAL_LIMIT = math.log(RESIDUAL_LIMIT)
_SMALLEST_LOG = math.log(1e-9)
_NORMAL_OVER_MEAN_DEVIATION = math.sqrt(math.pi / 2)


class LatencyEstimate(NamedTuple):
    """What was learnt from the latencies so far; logarithms of factors on the table.

    Attributes:
        log_slowdown: Measured over tabled latency, shared by all configurations.
        log_residuals: What each configuration alone deviates by, by name.
        recent: The last three measurements over table and residual, oldest first; fewer
            where fewer calls count.
        scatter: Standard deviation of the measurements around the slow-down.
        tail: What the 0.99 quantile lies further out than the table says.
        earlier_tail: The tail one call ago.
        calls: How many calls the slow-down is the mean of; no more than ``MEAN_OF``.
        observed: How many calls the tail was learnt from, and ``TABLE_CALLS`` at first.
        configuration: What ran last; empty before the first call.
    """

    log_slowdown: float
    log_residuals: Mapping[str, float]
    recent: tuple[float, ...]
    scatter: float
    tail: float
    earlier_tail: float
    calls: int
    observed: int
    configuration: str = ""

    @property
    def slowdown(self) -> float:
        """Measured over tabled latency, shared by all configurations."""
        return math.exp(self.log_slowdown)

    def residual(self, configuration: str) -> float:
        """Returns what ``configuration`` alone deviates by, as a factor."""
        return math.exp(self.log_residuals[configuration])


def first_estimate(
    points: Sequence[OperatingPoint], warm_up_ms: Mapping[str, float] | None = None
) -> LatencyEstimate:
    """Returns the estimate before any call but the last warm-up calls.

    A table measured on this host is trusted until two calls say otherwise, and these do not
    count. Without one, the first call sets the slow-down at once, whatever the scale of
    ``p50_ms``.
    """
    measured = any(point.source in MEASURED_SOURCES for point in points)
    scatter = max(min(point.log_slope for point in points), SMALLEST_SCATTER)
    recent = (0.0, 0.0) if measured else ()
    residuals = {point.configuration: 0.0 for point in points}
    estimate = LatencyEstimate(0.0, residuals, recent, scatter, 0.0, 0.0, MEAN_OF, TABLE_CALLS)
    seen_ms = {} if measured or warm_up_ms is None else warm_up_ms
    for point in points:
        if point.configuration in seen_ms:
            estimate = observe(point, estimate, seen_ms[point.configuration])
    return estimate


def predict_ms(point: OperatingPoint, estimate: LatencyEstimate, deviations: float) -> float:
    """Returns the latency that ``point`` is expected to stay within.

    ``deviations`` (``Budget.deviations``) is how sure that has to be.
    """
    return math.exp(predict_logs((point,), estimate, deviations)[0])


def predict_logs(
    points: Sequence[OperatingPoint], estimate: LatencyEstimate, deviations: float
) -> list[float]:
    """Returns the logarithms of ``predict_ms``, which are cheaper to compare."""
    level, residuals = estimate.log_slowdown, estimate.log_residuals
    learnt = estimate.tail * (deviations / DEVIATIONS_AT_99)
    near, far = spread_of(deviations)
    logs = []
    for point in points:
        beyond = near * point.log_slope + far * point.log_tail_slope + learnt
        typical = point.log_p50 + level + residuals[point.configuration]
        logs.append(typical + beyond if beyond > 0 else typical)
    return logs


def stages_ms(
    point: OperatingPoint, estimate: LatencyEstimate, deviations: float
) -> tuple[float, ...]:
    """Returns what ``point`` is expected to stay within, up to the end of each stage.

    The tail does not count: it is that of all calls, and they differ in where they stop.
    """
    level = estimate.log_slowdown + estimate.log_residuals[point.configuration]
    reach = deviations / DEVIATIONS_AT_99
    tails = [math.log(ms) for ms in point.upto_p99_ms] or point.log_upto
    found = []
    for middle, tail in zip(point.log_upto, tails, strict=True):
        beyond = max(tail - middle, estimate.scatter * DEVIATIONS_AT_99)
        found.append(math.exp(middle + level + max(beyond * reach, 0.0)))
    return tuple(found)


def typical_ms(points: Sequence[OperatingPoint], estimate: LatencyEstimate) -> list[float]:
    """Returns the median latency that is expected of each point now."""
    residuals, level, exp = estimate.log_residuals, estimate.log_slowdown, math.exp
    return [exp(point.log_p50 + level + residuals[point.configuration]) for point in points]


def observe(
    point: OperatingPoint,
    estimate: LatencyEstimate,
    latency_ms: float,
    quantile: float = 0.99,
    deviations: float = DEVIATIONS_AT_99,
    stage: int = -1,
) -> LatencyEstimate:
    """Returns ``estimate`` with one more measurement of ``point``, at least zero.

    A call that stopped early, at ``stage``, is compared with what it takes to get there: else
    it would be learnt as a faster device. The tail is that of the whole route. ``quantile`` is
    the share of calls that were to stay within the prediction, ``deviations`` the same in
    standard deviations: ``Budget.deviations``.
    """
    name, residuals = point.configuration, estimate.log_residuals
    measured = math.log(latency_ms) if latency_ms > 0 else _SMALLEST_LOG
    seen = _clamp(measured - point.log_upto[stage] - residuals[name], _LOG_SLOWDOWN_LIMIT)
    if not estimate.recent:
        return estimate._replace(
            log_slowdown=seen, recent=(seen,), calls=1, configuration=name
        )
    level, scatter, tail = estimate.log_slowdown, estimate.scatter, estimate.tail
    recent = (*estimate.recent[-2:], seen)
    typical = sorted(recent)[(len(recent) - 1) // 2]
    off, far = seen - level, JUMP_SCATTERS * scatter
    if abs(typical - level) > far:
        moved, calls = typical, 2
        tail = estimate.earlier_tail  # the call before was no outlier, but the first of many
    else:
        calls = min(estimate.calls + 1, MEAN_OF)
        moved = level + _clamp(off, far) / calls
        near, far_out = spread_of(deviations)
        tabled = near * point.log_slope + far_out * point.log_tail_slope
        reach = deviations / DEVIATIONS_AT_99  # what the tail does to this quantile
        beyond = max(tabled + tail * reach, 0.0)
        gain = TAIL_GAIN * (1 + TAIL_LEARNING_CALLS / estimate.observed)
        step = gain * reach * max(scatter, beyond / DEVIATIONS_AT_99)
        if off + (point.log_upto[stage] - point.log_p50) > beyond:
            tail = min(tail + step * quantile, LARGEST_TAIL)
        elif beyond > 0:
            tail += step * (quantile - 1)
    deviation = min(abs(off), far) * _NORMAL_OVER_MEAN_DEVIATION
    scatter = max(scatter + SCATTER_GAIN * (deviation - scatter), SMALLEST_SCATTER)
    if estimate.configuration and estimate.configuration != name:
        residuals = _with_deviation(residuals, name, off)
    return LatencyEstimate(
        moved,
        residuals,
        recent,
        scatter,
        tail,
        estimate.tail,
        calls,
        estimate.observed + 1,
        name,
    )


def _with_deviation(
    residuals: Mapping[str, float], name: str, deviation: float
) -> dict[str, float]:
    change = RESIDUAL_GAIN * _clamp(deviation, _LOG_STEP_LIMIT)
    share = change / len(residuals)  # the mean stays where it was
    moved = {key: value - share for key, value in residuals.items()}
    moved[name] = _clamp(moved[name] + change, _LOG_RESIDUAL_LIMIT)
    return moved


def _clamp(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)
