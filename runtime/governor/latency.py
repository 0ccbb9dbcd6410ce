"""How long the next call of a configuration will take, learnt from the calls before.

All but stalls in logarithms. A call's latency = the table's median x the slow-down x the
configuration's residual x noise, and sometimes a stall on top:

- The *slow-down* is shared by all configurations (a hot CPU slows all of them), so what one
  shows moves the predictions of the others. While measurements scatter around it, it follows
  them slowly; when two in a row are far outside of that scatter, on the same side, it starts
  anew from there, as the mean of what is seen from then on. So a single outlier hardly moves
  it, and a lasting change counts from its second call on.
- The *residual* is what a configuration alone deviates by. It learns only from the first
  call after a switch, where two configurations were seen one after the other; a change over
  time on one configuration says nothing about it, nor does a switch within a change. It takes
  a tenth of the deviation, which counts as twofold at most. The residuals' geometric mean
  stays 1.
- The *scatter* is the standard deviation of the noise, and the *tail* what a budget's quantile
  lies further out than the table says. The tail is a quantile estimate by stochastic
  approximation (Robbins and Monro, 1951): a call above the prediction lifts it by as much as
  a hundred calls below lower it, if the quantile is 0.99.
- *Stalls* (``stalls``) are counted apart, in milliseconds. Where they are more frequent than a
  quantile lets calls be late, the quantile is the median and a stall, and the tail that of the
  other calls. The more frequent they are, the more calls in a row it takes to tell a lasting
  slow-down from them.
- *Phases*: scatter and tail belong to a slow-down. Where another process comes and goes, each
  of the last few is found again with its own. Where a late call is rather the first of such a
  phase than a stall, the next call is predicted as if it had come to stay. A faster phase may
  lie within the scatter of a slower one; it is found again once the last calls are more
  likely in it (Page's cumulative sum, 1954), since nothing makes a single call faster.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from .operating_point import DEVIATIONS_AT_99, MEASURED_SOURCES, spread_of
from .stalls import FIRST_CALLS, STEADY, Stalls, after_calls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .operating_point import OperatingPoint

MEAN_OF = 30
JUMP_SCATTERS = 3.0
JUMP_CALLS = 2
HELD_UP = math.log(1.3)
HELD_UP_SCATTERS = 5.0
"""A call that much above the slow-down was held up, or is the first of a slower phase."""
CHANCE_OF_A_ROW = 0.002
"""Stalls one after the other less likely than this are none ..."""
MOST_IN_A_ROW = 5
"""... nor are so many."""
PHASES = 3
LEAST_OF_PHASE = 5
"""Phases of fewer calls are not remembered."""
PHASE_WIDTH = 0.1
"""Slow-downs whose logarithms are closer than this are the same phase."""
LIKELIER = math.log(100)
"""By how much calls must be likelier in a faster phase: at least two of them ..."""
LIKELIER_BY_A_CALL = math.log(20)
"""... since a single one says no more than that."""
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


class Phase(NamedTuple):
    """What belongs to a slow-down: see ``LatencyEstimate``."""

    log_slowdown: float
    scatter: float
    tail: float


class LatencyEstimate(NamedTuple):
    """What was learnt from the latencies so far; logarithms of factors on the table.

    Attributes:
        log_slowdown: Measured over tabled latency, shared by all configurations.
        log_residuals: What each configuration alone deviates by, by name.
        scatter: Standard deviation of the measurements around the slow-down.
        tail: What the 0.99 quantile lies further out than the table says.
        settled_tail: The tail before ``row`` began.
        calls: How many calls the slow-down is the mean of; no more than ``MEAN_OF``, and 0
            where nothing is known.
        observed: How many calls the tail was learnt from, and ``TABLE_CALLS`` at first.
        configuration: What ran last; empty before the first call.
        row: The last measurements over table and residual, oldest first, as far as they lie
            far outside of the scatter, on one side.
        held_ms: By how much those of them took longer that may have been held up.
        stalls: What is known of stalls.
        phases: Slow-downs before this one, the last one first.
        shifted: What ``observed`` was when the slow-down started anew.
        quicker: By how much the last calls are likelier in the last of the faster phases,
            as a logarithm; at least 0.
    """

    log_slowdown: float
    log_residuals: Mapping[str, float]
    scatter: float
    tail: float
    settled_tail: float
    calls: int
    observed: int
    configuration: str = ""
    row: tuple[float, ...] = ()
    held_ms: tuple[float, ...] = ()
    stalls: Stalls = Stalls()
    phases: tuple[Phase, ...] = ()
    shifted: int = 0
    quicker: float = 0.0

    @property
    def slowdown(self) -> float:
        """Measured over tabled latency, shared by all configurations."""
        return math.exp(self.log_slowdown)

    def residual(self, configuration: str) -> float:
        """Returns what ``configuration`` alone deviates by, as a factor."""
        return math.exp(self.log_residuals[configuration])

    def alone(self, configuration: str) -> LatencyEstimate:
        """Returns the estimate of one configuration, without all others' residuals."""
        own = {configuration: self.log_residuals[configuration]}
        return LatencyEstimate(self.log_slowdown, own, *self[2:])

    @property
    def most_beyond(self) -> float:
        """How far beyond the median noise reaches: what lies further out was held up.

        A table that was measured beside something else says more than that; it is believed
        until some calls were seen.
        """
        if self.observed < TABLE_CALLS + FIRST_CALLS:
            return math.inf
        reach = HELD_UP_SCATTERS * self.scatter
        return reach if reach > HELD_UP else HELD_UP

    @property
    def next_phase(self) -> Phase:
        """What the next call is predicted with; cautious where a slower phase may begin."""
        now = Phase(self.log_slowdown, self.scatter, self.tail)
        if not self.held_ms or self.stalls.shifts <= self.stalls.stalled:
            return now
        return max((now._replace(log_slowdown=self.row[-1]), *self.phases))


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
    residuals = {point.configuration: 0.0 for point in points}
    calls = MEAN_OF if measured else 0
    estimate = LatencyEstimate(0.0, residuals, scatter, 0.0, 0.0, calls, TABLE_CALLS)
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
    level, tail, residuals = estimate.log_slowdown, estimate.tail, estimate.log_residuals
    if estimate.held_ms:
        level, _, tail = estimate.next_phase
    held_ms = estimate.stalls.quantile_ms(deviations)
    learnt = tail * (deviations / DEVIATIONS_AT_99)
    near, far = spread_of(deviations)
    most, logs = estimate.most_beyond, []
    for point in points:
        beyond = near * point.log_slope + far * point.log_tail_slope
        if not point.upto_ms:
            beyond = min(beyond, most, most - learnt)
        beyond += learnt
        typical = point.log_p50 + level + residuals[point.configuration]
        log = typical + beyond if beyond > 0 else typical
        if held_ms:
            log = max(log, math.log(math.exp(typical) + held_ms))
        logs.append(log)
    return logs


def stages_ms(
    point: OperatingPoint, estimate: LatencyEstimate, deviations: float
) -> tuple[float, ...]:
    """Returns what ``point`` is expected to stay within, up to the end of each stage.

    The tail does not count: it is that of all calls, and they differ in where they stop.
    """
    level = estimate.next_phase.log_slowdown + estimate.log_residuals[point.configuration]
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


def log_factor(
    point: OperatingPoint, estimate: LatencyEstimate, latency_ms: float, stage: int = -1
) -> float:
    """Returns the logarithm of a latency over the median that is expected of it."""
    expected = point.log_upto[stage] + estimate.log_residuals[point.configuration]
    measured = math.log(latency_ms) if latency_ms > 0 else _SMALLEST_LOG
    return measured - expected - estimate.log_slowdown


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
    (level, residuals, scatter, tail, settled, calls, observed, last,
     row, held_ms, stalls, phases, shifted, quicker) = estimate  # fmt: skip
    name, upto = point.configuration, point.log_upto[stage]
    expected = upto + residuals[name]
    measured = math.log(latency_ms) if latency_ms > 0 else _SMALLEST_LOG
    seen = measured - expected
    if not -_LOG_SLOWDOWN_LIMIT <= seen <= _LOG_SLOWDOWN_LIMIT:
        seen = _clamp(seen, _LOG_SLOWDOWN_LIMIT)
    if not calls:
        return estimate._replace(log_slowdown=seen, calls=1, configuration=name)
    off, far = seen - level, JUMP_SCATTERS * scatter
    distance, is_held, was_row = abs(off), False, bool(row)
    if distance <= far or (row and (row[-1] > level) != (off > 0)):
        usual = stalls is STEADY and not row
        stalls = stalls if usual else after_calls(stalls, held_ms)  # no phase, then
        row = held_ms = ()
    if distance > far:
        is_held = off > HELD_UP and off > HELD_UP_SCATTERS * scatter
        settled = settled if row else tail
        row = (*row, seen)
        if is_held:
            held_ms = (*held_ms, latency_ms - math.exp(level + expected))
        if len(row) >= _enough(row, held_ms, stalls):
            return _shifted(estimate, row, held_ms, name, settled)
    if phases:
        faster = next((p for p in phases if p.log_slowdown < level - PHASE_WIDTH), None)
        quicker = 0.0 if faster is None else _likelier(faster, quicker, seen, level, scatter)
        if faster is not None and quicker >= LIKELIER:
            settled = settled if was_row else tail
            return _shifted(estimate, (faster.log_slowdown,), (), name, settled)
    if last != name and last and calls > JUMP_CALLS and not was_row:
        stalled = is_held and stalls.likelier
        residuals = residuals if stalled else _with_deviation(residuals, name, off)
    if not (is_held and stalls.exceed(1 - quantile)):
        reach = deviations / DEVIATIONS_AT_99  # what the tail does to this quantile
        near, far_out = spread_of(deviations)
        beyond = near * point.log_slope + far_out * point.log_tail_slope
        if beyond > HELD_UP and not point.upto_ms:  # which no bound is below
            beyond = min(beyond, estimate.most_beyond)
        beyond += tail * reach
        beyond = beyond if beyond > 0 else 0.0
        gain = TAIL_GAIN * (1 + TAIL_LEARNING_CALLS / observed)
        step = gain * reach * max(scatter, beyond / DEVIATIONS_AT_99)
        if off + (upto - point.log_p50) > beyond:
            tail = min(tail + step * quantile, LARGEST_TAIL)
        elif beyond > 0:
            tail += step * (quantile - 1)
    if calls < MEAN_OF:
        calls += 1
    if not is_held:
        if distance > far:
            off, distance = _clamp(off, far), far
        level += off / calls
        scatter += SCATTER_GAIN * (distance * _NORMAL_OVER_MEAN_DEVIATION - scatter)
        if scatter < SMALLEST_SCATTER:
            scatter = SMALLEST_SCATTER
    # Made as the constructor does, which is a function more; so are others of each call.
    return tuple.__new__(LatencyEstimate, (
        level, residuals, scatter, tail, settled if row else tail, calls, observed + 1, name,
        row, held_ms, stalls, phases, shifted, quicker,
    ))  # fmt: skip


def _enough(row: Sequence[float], held_ms: Sequence[float], stalls: Stalls) -> int:
    """Returns how many measurements like these in a row are a lasting change."""
    enough = JUMP_CALLS
    if len(held_ms) == len(row) and stalls.likelier:
        while enough < MOST_IN_A_ROW and stalls.rate**enough > CHANCE_OF_A_ROW:
            enough += 1
    return enough


def _likelier(
    faster: Phase, before: float, seen: float, level: float, scatter: float
) -> float:
    """Returns by how much the calls up to this one are likelier in ``faster``, at least 0."""
    width = max(faster.scatter, PHASE_WIDTH)
    here, there = (seen - level) / scatter, (seen - faster.log_slowdown) / width
    by = math.log(scatter / width) + (here * here - there * there) / 2
    return max(before + _clamp(by, LIKELIER_BY_A_CALL), 0.0)


def _shifted(
    estimate: LatencyEstimate,
    row: Sequence[float],
    held_ms: Sequence[float],
    name: str,
    settled_tail: float,
) -> LatencyEstimate:
    """Returns the estimate from which on the slow-down is another one, seen in ``row``."""
    level, count = estimate.log_slowdown, len(row)
    before = Phase(level, estimate.scatter, settled_tail)
    others = tuple(each for each in estimate.phases if not _same(each, level))
    phases = others
    if estimate.observed - estimate.shifted >= LEAST_OF_PHASE:
        phases = (before, *others)[:PHASES]
    # The change may have come within the first call: the last one tells best what it is.
    again = next((each for each in others if _same(each, row[-1])), None)
    moved = sorted(row)[(count - 1) // 2 if row[0] > level else count // 2]
    moved, scatter, tail = again or before._replace(log_slowdown=moved)
    return estimate._replace(
        log_slowdown=moved,
        scatter=scatter,
        tail=tail,
        settled_tail=tail,
        calls=JUMP_CALLS,
        observed=estimate.observed + 1,
        configuration=name,
        row=(),
        held_ms=(),
        stalls=after_calls(estimate.stalls, (), shifts=len(held_ms) == count),
        phases=phases,
        shifted=estimate.observed + 1,
        quicker=0.0,
    )


def _same(phase: Phase, log_slowdown: float) -> bool:
    width = max(JUMP_SCATTERS * phase.scatter, PHASE_WIDTH)
    return abs(phase.log_slowdown - log_slowdown) <= width


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
