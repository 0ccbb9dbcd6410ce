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
- The *scatter* is the standard deviation of the noise, by how far apart neighbouring calls
  are: speeds that follow one another are no noise.
- The *tail* is what a budget's quantile lies further out than the table says: a quantile
  estimate by stochastic approximation (Robbins and Monro, 1951). A call above the prediction
  lifts it by as much as a hundred calls below lower it, if the quantile is 0.99.
- *Stalls* (``stalls``) are counted apart, in milliseconds. Where they are more frequent than a
  quantile lets calls be late, the quantile is the median and a stall, and the tail that of the
  other calls. The more frequent they are, the more calls in a row it takes to tell a lasting
  slow-down from them.
- *Phases*: scatter and tail belong to a slow-down. Where another process comes and goes, each
  of the last few is found again with its own, once the last calls are likelier in it than in
  the present one (Page's cumulative sum, 1954); what is likelier in another one moves nothing
  of this one. Where a late call is rather the first of such a phase than a stall, the next
  call is predicted as if it had come to stay.
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
NEARLY = 0.05
"""Calls closer to the slow-down than this are of the present phase."""
PHASE_WIDTH = 0.1
"""Slow-downs whose logarithms are closer than this are the same phase."""
LIKELIER = math.log(100)
"""By how much calls must be likelier in another phase: at least two of them ..."""
LIKELIER_BY_A_CALL = math.log(20)
"""... since a single one says no more than that."""
OF_ANOTHER = math.log(5)
"""A call that is likelier in another phase by this says nothing about the present one."""
KNOWN_CALLS = 10
"""How many calls a phase that is found again counts as."""
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
_SQRT_2 = math.sqrt(2)
_NORMAL_OVER_MEAN_APART = math.sqrt(math.pi) / 2


class Phase(NamedTuple):
    """What belongs to a slow-down: see ``LatencyEstimate``."""

    log_slowdown: float
    scatter: float
    tail: float
    calls: int = JUMP_CALLS


class LatencyEstimate(NamedTuple):
    """What was learnt from the latencies so far; logarithms of factors on the table.

    Attributes:
        log_slowdown: Measured over tabled latency, shared by all configurations.
        log_residuals: What each configuration alone deviates by, by name.
        scatter: Standard deviation of the noise.
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
        quickened: What ``observed`` was when the device became faster at once.
        likelier: By how much the last calls are likelier in each of ``phases``, as a
            logarithm; at least 0, and empty where it is that in all.
        before: The last measurement that counted for the slow-down.
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
    quickened: int = 0
    likelier: tuple[float, ...] = ()
    before: float = 0.0

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
        now = Phase(self.log_slowdown, self.scatter, self.tail, self.calls)
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
        level, _, tail, _ = estimate.next_phase
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
     row, held_ms, stalls, phases, quickened, likelier, before) = estimate  # fmt: skip
    name, upto = point.configuration, point.log_upto[stage]
    expected = upto + residuals[name]
    measured = math.log(latency_ms) if latency_ms > 0 else _SMALLEST_LOG
    seen = measured - expected
    if not -_LOG_SLOWDOWN_LIMIT <= seen <= _LOG_SLOWDOWN_LIMIT:
        seen = _clamp(seen, _LOG_SLOWDOWN_LIMIT)
    if not calls:
        return estimate._replace(log_slowdown=seen, calls=1, configuration=name, before=seen)
    off, far = seen - level, JUMP_SCATTERS * scatter
    distance, was_row, is_held, elsewhere = abs(off), bool(row), False, False
    if distance > far or row or likelier or (phases and distance > NEARLY):
        is_held = off > HELD_UP and off > HELD_UP_SCATTERS * scatter
        if phases:
            likelier, elsewhere = _likelier(estimate, seen, is_held)
            if max(likelier, default=0.0) >= LIKELIER:
                found = phases[likelier.index(max(likelier))]
                settled = settled if row else tail
                return _shifted(estimate, found, seen, name, settled, bool(held_ms))
        if distance <= far or (row and (row[-1] > level) != (off > 0)):
            stalls = after_calls(stalls, held_ms)  # no phase, then
            row = held_ms = ()
        if distance > far:
            settled = settled if row else tail
            row = (*row, seen)
            if is_held:
                held_ms = (*held_ms, latency_ms - math.exp(level + expected))
            if len(row) >= _enough(row, held_ms, stalls):
                found, held_up = _phase_of(row, estimate), len(held_ms) == len(row)
                return _shifted(estimate, found, seen, name, settled, held_up)
    elif stalls is not STEADY:
        stalls = after_calls(stalls, ())
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
        each = beyond / DEVIATIONS_AT_99
        gain = TAIL_GAIN * (1 + TAIL_LEARNING_CALLS / observed)
        step = gain * reach * (scatter if scatter > each else each)
        if off + (upto - point.log_p50) > beyond:
            tail = min(tail + step * quantile, LARGEST_TAIL)
        elif beyond > 0:
            tail += step * (quantile - 1)
    if calls < MEAN_OF:
        calls += 1
    if not (is_held or elsewhere):
        if distance > far:
            off = _clamp(off, far)
        level += off / calls
        apart, most = abs(seen - before), _SQRT_2 * far
        apart = apart if apart < most else most
        scatter += SCATTER_GAIN * (apart * _NORMAL_OVER_MEAN_APART - scatter)
        scatter = scatter if scatter > SMALLEST_SCATTER else SMALLEST_SCATTER
        before = seen
    # Made as the constructor does, which is a function more; so are others of each call.
    return tuple.__new__(LatencyEstimate, (
        level, residuals, scatter, tail, settled if row else tail, calls, observed + 1, name,
        row, held_ms, stalls, phases, quickened, likelier, before,
    ))  # fmt: skip


def _enough(row: Sequence[float], held_ms: Sequence[float], stalls: Stalls) -> int:
    """Returns how many measurements like these in a row are a lasting change."""
    enough = JUMP_CALLS
    if len(held_ms) == len(row) and stalls.likelier:
        while enough < MOST_IN_A_ROW and stalls.rate**enough > CHANCE_OF_A_ROW:
            enough += 1
    return enough


def _likelier(
    estimate: LatencyEstimate, seen: float, is_held: bool
) -> tuple[tuple[float, ...], bool]:
    """Returns by how much the calls up to this one are likelier in each of the phases.

    Empty if in none; and whether this one is, so that it says nothing about the present one.
    What may have been held up is no sign of a slower phase.
    """
    level, scatter, phases = estimate.log_slowdown, estimate.scatter, estimate.phases
    here, found, clearly = (seen - level) / scatter, [], False
    for phase, by in zip(phases, estimate.likelier or (0.0,) * len(phases), strict=True):
        if is_held and phase.log_slowdown > level:
            found.append(by)
            continue
        width = max(phase.scatter, NEARLY)
        there = (seen - phase.log_slowdown) / width
        more = math.log(scatter / width) + (here * here - there * there) / 2
        found.append(max(by + _clamp(more, LIKELIER_BY_A_CALL), 0.0))
        clearly |= more > OF_ANOTHER
    return tuple(found) if any(found) else (), clearly


def _phase_of(row: Sequence[float], estimate: LatencyEstimate) -> Phase:
    """Returns the phase that calls in a row belong to: the nearest that is known, or another.

    The change may have come within the first call: the last one tells best what it is.
    """
    nearest = min(
        estimate.phases, key=lambda each: abs(each.log_slowdown - row[-1]), default=None
    )
    if nearest is not None:
        width = max(JUMP_SCATTERS * nearest.scatter, PHASE_WIDTH)
        if abs(nearest.log_slowdown - row[-1]) <= width:
            return nearest
    moved = sorted(row)[len(row) // 2]
    return Phase(moved, estimate.scatter, estimate.settled_tail, JUMP_CALLS)


def _shifted(
    estimate: LatencyEstimate,
    found: Phase,
    seen: float,
    name: str,
    settled_tail: float,
    held_up: bool,
) -> LatencyEstimate:
    """Returns the estimate in another phase; ``held_up`` if it began as stalls do."""
    level, observed = estimate.log_slowdown, estimate.observed + 1
    left = Phase(level, estimate.scatter, settled_tail, estimate.calls)
    known = tuple(
        each for each in estimate.phases if each is not found and not _same(each, left)
    )
    if left.calls >= LEAST_OF_PHASE and not _same(left, found):
        known = (left, *known)[:PHASES]
    moved, scatter, tail, calls = found
    return estimate._replace(
        log_slowdown=moved,
        scatter=scatter,
        tail=tail,
        settled_tail=tail,
        calls=max(min(calls, KNOWN_CALLS), JUMP_CALLS),
        observed=observed,
        configuration=name,
        row=(),
        held_ms=(),
        stalls=after_calls(estimate.stalls, (), shifts=held_up),
        phases=known,
        quickened=observed if moved < level else estimate.quickened,
        likelier=(),
        before=seen,
    )


def _same(one: Phase, other: Phase) -> bool:
    width = max(2 * min(one.scatter, other.scatter), PHASE_WIDTH)
    return abs(one.log_slowdown - other.log_slowdown) <= width


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
