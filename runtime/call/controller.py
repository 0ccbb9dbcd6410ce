"""The governor in use: its state, kept for calls from many threads.

The governor is pure; this is where its state lives, under one lock. A call begins here, with
a choice, and ends here, with what it took.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING

from ..clock import Elapsed
from ..governor import (
    after_call,
    after_choice,
    after_refusal,
    before_choice,
    decide,
    with_point,
)
from ..governor.keeping import Keeper
from ..governor.latency import log_factor, stages_ms, typical_ms
from .health import Health
from .readiness import choose
from .record import (
    PLAIN,
    BegunCall,
    CallRecord,
    EndedCall,
    Tally,
    Way,
    failure_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..governor import Decision, OperatingPoint, State
    from ..governor.budget import Budget
    from ..governor.latency import LatencyEstimate
    from ..governor.sizes import CallSizes
    from .lifetime import InFlight
    from .metering import Metering
    from .orders import Orders
    from .readiness import Readiness

_LOG = logging.getLogger(__name__)
_LEFT_OUT = (
    "configuration %r failed and is left out from now on; %r ran instead."
    " AdaptiveEngine.restore(%r) takes it back. %s"
)
_FEW = 32


class Controller:
    """Decides for each call, and learns from it.

    ``metering`` is None without a meter, ``readiness`` where all engines stay loaded,
    ``sizes`` without free dimensions.
    """

    def __init__(
        self,
        points: Mapping[str, OperatingPoint],
        state: State,
        orders: Orders,
        in_flight: InFlight,
        metering: Metering | None = None,
        readiness: Readiness | None = None,
        opened_ns: int = 0,
        sizes: CallSizes | None = None,
    ) -> None:
        self.points = points
        self._order = tuple(points.values())
        self.health = Health(self._order)
        self.state = state
        self._orders, self.in_flight = orders, in_flight
        self.metering = metering
        self._readiness, self.sizes = readiness, sizes
        self._typical = () if sizes is None else sizes.typical
        self._keeper = Keeper()
        self._choose = _choosing(readiness)
        self._elapsed = Elapsed(opened_ns)
        self._idle_since_s = 0.0
        self.tally = Tally(points)
        self._unsaid: list[str] = []
        self.lock = RLock()
        """Held for a moment; may be taken twice, by a call of a signal's handler."""

    def begin(
        self,
        now_ns: int,
        deadline_ms: float | None = None,
        hard: bool | None = None,
        sizes: tuple[int, ...] = (),
    ) -> BegunCall:
        """Returns what the call that begins now runs, and what it is granted.

        ``deadline_ms`` is what it may take instead of the budget's latency, ``hard`` whether
        that is hard instead of what the budget says; ``sizes`` are the call's free ones.

        Raises:
            BudgetError: ``strict`` is set and nothing is predicted to fit.
        """
        try:
            with self.lock:
                now_s, before = self._elapsed.at(now_ns), self.state
                budget, pinned = self._orders.budget, self._orders.pinned
                if hard is not None and hard is not budget.hard:
                    budget = replace(budget, hard=hard)
                idle_s, state = 0.0, before
                if self.metering is not None or budget.is_timed:
                    idle_s = self._idle_s(now_s)
                if self.metering is not None:
                    before = state = self.metering.read(before, idle_s, now_s, now_ns)
                    self._unsaid += self.metering.take_notes()
                if budget.has_average or before.account is not None:
                    state = before_choice(before, budget, now_s, idle_s)
                self._idle_since_s = now_s
                usual = deadline_ms is None and pinned is None and sizes == self._typical
                usual = usual and not (self.in_flight.may_hang or self.health.bad)
                decision = self._keeper.again(budget, state, now_s) if usual else None
                if decision is not None:
                    if self.tally.is_episode or not decision.feasible:
                        self.state = after_refusal(state, before)
                        self._judge(decision, budget, now_s)
                    self.state, latency = state, state.latency
                    self.tally.begins(decision.configuration)
                    if len(self._order) > _FEW:  # ten thousand calls are remembered
                        latency = latency.alone(decision.configuration)
                    parts = decision, budget, None, (), latency, sizes, 1.0
                    call = tuple.__new__(BegunCall, parts)
                    point = self.points[decision.configuration]
                    return _stopping(call, point, state.latency) if budget.hard else call
                self.state = after_refusal(state, before)  # until it is sure to run
                asked = pinned, deadline_ms, sizes
                call, self.state = self._decided(state, budget, now_s, *asked)
                self.tally.begins(call.configuration)
                return _stopping(call, self.points[call.configuration], state.latency)
        finally:
            if self._unsaid:
                self._say()

    def _decided(
        self,
        state: State,
        budget: Budget,
        now_s: float,
        pinned: str | None,
        deadline_ms: float | None,
        sizes: tuple[int, ...],
    ) -> tuple[BegunCall, State]:
        """Returns a call that was decided on in ``state``, and the state from then on."""
        points: Sequence[OperatingPoint] = self._order
        if pinned is None:
            points = self.health.usable(self.in_flight.hanging())
        granted_ms, factor = deadline_ms, 1.0
        if self.sizes is not None and sizes != self._typical:
            factor = self.sizes.factor(sizes)
            limit_ms = budget.latency_ms if deadline_ms is None else deadline_ms
            granted_ms = None if limit_ms is None else limit_ms / factor
        decision = self._choose(points, budget, state, now_s, pinned, granted_ms)
        decision = decision if factor == 1.0 else decision.times(factor)
        if self.tally.is_episode or not decision.feasible:
            self._judge(decision, budget, now_s)
        after = after_choice(state, budget, decision, now_s, granted_ms)
        all_may = pinned is None and points is self._order
        if all_may and granted_ms is None and factor == 1.0:
            # Neither where engines come and go, nor where it changes the ceiling.
            steady = self._readiness is None and after.ceiling is state.ceiling
            self._keeper.take(decision, points, budget, state, now_s, steady)
        return BegunCall(decision, budget, deadline_ms, (), None, sizes, factor), after

    def _judge(self, decision: Decision, budget: Budget, now_s: float) -> None:
        """Takes note of whether a budget can be met; ``BudgetError`` where that is refused."""
        news = self.tally.is_news(decision.feasible, budget, now_s)
        self._orders.check_feasible(decision)
        if news and not decision.pinned:
            self._unsaid.append(f"the budget cannot be met: {decision.reason}")

    def end(
        self,
        call: BegunCall,
        now_ns: int,
        latency_ms: float,
        failure: str = "",
        ran: bool = True,
        way: Way = PLAIN,
    ) -> None:
        """Takes note of what a call took.

        ``latency_ms`` is how long it took, be it to fail (``failure`` then says why); below
        zero if the clock went back meanwhile. ``ran`` tells whether the engine ran to its end,
        even if what it returned was refused; ``way`` how far it came.
        """
        with self.lock:
            name, budget, state = call.decision.configuration, call.budget, self.state
            point, took_ms = self.points[name], latency_ms if latency_ms > 0 else 0.0
            # Else what few units ran for would be learnt as a faster device.
            whole_ms = took_ms if way is PLAIN else took_ms / way.work
            learns = ran and way.alike and latency_ms >= 0 and not call.decision.loading
            seen_ms = whole_ms if learns else None
            now_s = self._elapsed.at(now_ns)
            started_s, idle_s = now_s - took_ms / 1000, 0.0
            if self.metering is not None or self._orders.budget.is_timed:
                idle_s = self._idle_s(started_s)  # for the choice
            spent_mj = call.factor * state.energy.call_mj.get(name, 0.0)
            if self.sizes is not None and seen_ms is not None:
                log = log_factor(point, state.latency, whole_ms, way.stage)
                known = self.sizes.observe(call.sizes, log)
                seen_ms = whole_ms / call.factor if known else None
            if not ran:  # one that fails half-way took half of the energy
                (usual_ms,) = typical_ms([point], state.latency)
                spent_mj *= min(took_ms / (call.factor * usual_ms), 1.0)
            self.state = after_call(
                state, budget, point, seen_ms, spent_mj, now_s, idle_s, way.stage,
                bool(failure), took_ms / call.factor,
            )  # fmt: skip
            metered_mj = None
            if self.metering is not None:
                metered_mj = self.metering.total_mj
                self.metering.charge_idle(idle_s, state.energy.idle_w, started_s)
                self.metering.charge(name, spent_mj, (started_s, now_s))
            parts = now_s, took_ms, call, metered_mj, failure, way
            self.tally.ends(tuple.__new__(EndedCall, parts))
            self._idle_since_s = now_s

    def _idle_s(self, now_s: float) -> float:
        """Returns how long nothing ran before this moment; a call that hangs does not."""
        if not self.in_flight.is_alone():
            return 0.0
        return max(now_s - self._idle_since_s, 0.0)

    def stand_in(self, failed: BegunCall, now_ns: int) -> BegunCall | None:
        """Returns what runs in place of a call that failed: see ``Health.stand_in``.

        Averages do not speak against one call. None where the caller had pinned the
        configuration, there is no other, none fits and ``strict`` is set, or the engine was
        closed meanwhile.
        """
        name, budget = failed.configuration, failed.budget
        with self.lock:
            hanging = self.in_flight.hanging()
            point = self.health.stand_in(self.points[name], hanging, budget.min_accuracy)
            if failed.decision.pinned or point is None or self.in_flight.closed:
                return None
            now_s, other = self._elapsed.at(now_ns), point.configuration
            state = self.state._replace(account=None)
            granted_ms, factor = failed.deadline_ms, failed.factor
            if factor != 1.0 and failed.limit_ms is not None:
                granted_ms = failed.limit_ms / factor
            decision = decide([point], budget, state, now_s, deadline_ms=granted_ms)
            decision = decision.times(factor)
            if self._orders.strict and not decision.feasible:
                return None
            loading = self._readiness is not None and not self._readiness.ready(other)
            self.tally.begins(other)
        instead = replace(decision, note=f"{name!r} failed;", loading=loading)
        begun = failed._replace(decision=instead, stages_ms=(), latency=None)
        return _stopping(begun, point, state.latency)

    def mark_bad(self, configuration: str, failure: Exception, instead: str) -> None:
        """Leaves a configuration out until it is restored: it failed where another did not."""
        text = failure_text(failure)
        with self.lock:
            marked = self.health.mark_bad(configuration, text)
        if marked:
            _LOG.error(_LEFT_OUT, configuration, instead, configuration, text)

    def restore(self, configuration: str) -> None:
        """Takes a configuration back that was left out; ``ChoiceError`` if there is none."""
        self._orders.check_name(configuration)
        with self.lock:
            self.health.restore(configuration)

    def add(self, point: OperatingPoint) -> None:
        """Takes one more configuration, which calls may run from now on."""
        with self.lock:
            self.state = with_point(self.state, self._order, point)
            self.points = {**self.points, point.configuration: point}
            self._order = tuple(self.points.values())
            self._keeper.forget()
            self.health.add(point)
            self.tally.calls[point.configuration] = 0
            self._orders.add(point)

    def _say(self) -> None:
        """Logs what came up; without the lock, which a log's handler may want."""
        with self.lock:
            texts, self._unsaid = self._unsaid, []
        for text in texts:
            _LOG.warning("%s", text)

    def records(self) -> tuple[CallRecord, ...]:
        """Returns the last calls that finished, oldest first."""
        with self.lock:
            ended = tuple(self.tally.ended)
        return tuple(call.record(self.points) for call in ended)

    @property
    def last(self) -> CallRecord | None:
        """The call that finished last; None before the first."""
        ended = self.tally.ended
        return ended[-1].record(self.points) if ended else None


def _choosing(readiness: Readiness | None) -> Callable[..., Decision]:
    return decide if readiness is None else partial(choose, readiness=readiness)


def _stopping(call: BegunCall, point: OperatingPoint, latency: LatencyEstimate) -> BegunCall:
    """Returns a call with what it needs to stop in time, where that is asked of a route."""
    if not call.budget.hard or not point.upto_ms or call.limit_ms is None:
        return call
    predicted = stages_ms(point, latency, call.budget.deviations)
    return call._replace(stages_ms=tuple(call.factor * ms for ms in predicted))
