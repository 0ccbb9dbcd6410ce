"""The governor in use: its state, kept for calls from many threads.

The governor is pure; this is where its state lives, under one lock. A call begins here, with
a choice, and ends here, with what it took.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, final

from ..clock import Elapsed
from ..governor import (
    after_call,
    after_choice,
    after_refusal,
    before_choice,
    decide,
    with_point,
)
from ..governor.keeping import keep
from ..governor.latency import stages_ms, typical_ms
from .health import Health
from .readiness import choose
from .record import BegunCall, CallRecord, EndedCall, Tally, failure_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..governor import Decision, OperatingPoint, State
    from ..governor.budget import Budget
    from ..governor.keeping import Kept
    from .lifetime import InFlight
    from .metering import Metering
    from .orders import Orders
    from .readiness import Readiness

_LOG = logging.getLogger(__name__)

_LONGEST_PAUSE = 63
"""Most decisions after which it is tried again to keep one, where none was made again."""


@final
class Controller:
    """Decides for each call, and learns from it.

    ``metering`` is None without a meter, ``readiness`` where all engines stay loaded.
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
    ) -> None:
        self.points = points
        self._order = tuple(points.values())
        self.health = Health(self._order)
        self.state = state
        self._orders, self.in_flight = orders, in_flight
        self.metering = metering
        self._readiness = readiness
        self._kept: Kept | None = None
        self._pause = self._paused = 0
        self._choose = decide if readiness is None else partial(choose, readiness=readiness)
        self._elapsed = Elapsed(opened_ns)
        self._idle_since_s = 0.0
        self.tally = Tally(points)
        self._unsaid: list[str] = []
        self.lock = RLock()
        """Held for a moment; may be taken twice, by a call of a signal's handler."""

    def begin(
        self, now_ns: int, deadline_ms: float | None = None, hard: bool | None = None
    ) -> BegunCall:
        """Returns what the call that begins now runs, and what it is granted.

        ``deadline_ms`` is what it may take instead of the budget's latency, ``hard`` whether
        that is hard instead of what the budget says.

        Raises:
            BudgetError: ``strict`` is set and nothing is predicted to fit.
        """
        try:
            with self.lock:
                now_s = self._elapsed.at(now_ns)
                budget, pinned = self._orders.budget, self._orders.pinned
                if hard is not None and hard is not budget.hard:
                    budget = replace(budget, hard=hard)
                matters = self.metering is not None or budget.has_average
                idle_s = self._idle_s(now_s) if matters else 0.0
                self._idle_since_s = now_s
                before = self.state
                if self.metering is not None:
                    before = self.metering.read(before, idle_s, now_s, now_ns)
                    self._unsaid += self.metering.take_notes()
                if budget.has_average or before.account is not None:
                    state = before_choice(before, budget, now_s, idle_s)
                else:
                    state = before
                points: Sequence[OperatingPoint] = self._order
                if pinned is None:
                    hanging = self.in_flight.hanging()
                    if hanging or self.health.bad:
                        points = self.health.usable(hanging)
                kept, latency = self._kept, None
                decision = None
                usual = pinned is None and deadline_ms is None
                if usual and kept is not None and kept.holds(points, budget, state):
                    decision = kept.decision(state)
                if decision is None:
                    self.state = after_refusal(state, before)  # until it is sure to run
                    decision = self._choose(points, budget, state, now_s, pinned, deadline_ms)
                else:
                    latency = state.latency
                if not decision.feasible or self.tally.is_episode:
                    news = self.tally.is_news(decision.feasible, budget, now_s)
                    self._orders.check_feasible(decision)
                    if news and not decision.pinned:
                        self._unsaid.append(f"the budget cannot be met: {decision.reason}")
                if latency is None:
                    after = after_choice(state, budget, decision, now_s, deadline_ms)
                    if usual:
                        self._keep(decision, points, budget, state, after)
                    state = after
                self.state = state
                self.tally.begins(decision.configuration)
                call = BegunCall(decision, budget, deadline_ms, (), latency)
                if budget.hard:
                    call = self._stopping(call)
        finally:
            if self._unsaid:
                self._say()
        return call

    def _keep(
        self,
        decision: Decision,
        points: Sequence[OperatingPoint],
        budget: Budget,
        state: State,
        after: State,
    ) -> None:
        """Keeps a decision that was made in ``state`` for further calls, if it may be."""
        kept = self._kept
        if kept is None or not kept.holds(points, budget, state):
            if kept is not None:
                self._pause = 0 if kept.used else min(2 * self._pause + 1, _LONGEST_PAUSE)
                self._paused = 0
            kept = None
            self._paused += 1
            # Neither where engines come and go, nor where the decision itself changes things.
            steady = self._readiness is None and after.ceiling is state.ceiling
            if steady and self._paused > self._pause:
                kept = keep(points, budget, state)
        if kept is not None:
            kept.add(state, decision)
        self._kept = kept

    def _stopping(self, call: BegunCall) -> BegunCall:
        """Returns a call with what it needs to stop in time, where its route has stages."""
        point = self.points[call.configuration]
        if not point.upto_ms or call.limit_ms is None:
            return call
        predicted = stages_ms(point, self.state.latency, call.budget.deviations)
        return call._replace(stages_ms=predicted)

    def end(
        self,
        call: BegunCall,
        now_ns: int,
        latency_ms: float,
        failure: str = "",
        ran: bool = True,
        stage: int = 0,
        alike: bool = True,
        stopped_by: str = "end",
    ) -> None:
        """Takes note of what a call took.

        ``latency_ms`` is how long it took, be it to fail (``failure`` then says why); it is
        below zero if the clock went back meanwhile. ``ran`` tells whether the engine ran to
        its end, even if what it returned was refused; ``stage`` is the last of its route that
        it reached, ``alike`` tells whether all rows of its batch stopped there, and
        ``stopped_by`` why.
        """
        with self.lock:
            name, budget = call.decision.configuration, call.budget
            point, took_ms = self.points[name], max(latency_ms, 0.0)
            learns = ran and alike and latency_ms >= 0 and not call.decision.loading
            seen_ms = took_ms if learns else None
            now_s = self._elapsed.at(now_ns)
            started_s, idle_s, state = now_s - took_ms / 1000, 0.0, self.state
            if self.metering is not None or self._orders.budget.has_average:
                idle_s = self._idle_s(started_s)  # for the choice
            spent_mj = state.energy.call_mj.get(name, 0.0)
            if not ran:  # one that fails half-way took half of the energy
                (whole_ms,) = typical_ms([point], state.latency)
                spent_mj *= min(took_ms / whole_ms, 1.0)
            failed, metered_mj = bool(failure), None
            self.state = after_call(
                state, budget, point, seen_ms, spent_mj, now_s, idle_s, stage, failed
            )
            if self.metering is not None:
                metered_mj = self.metering.total_mj
                self.metering.charge_idle(idle_s, state.energy.idle_w, started_s)
                self.metering.charge(name, spent_mj, (started_s, now_s))
            self.tally.ends(
                EndedCall(now_s, took_ms, call, metered_mj, failure, stage, stopped_by)
            )
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
            decision = decide([point], budget, state, now_s, deadline_ms=failed.deadline_ms)
            if self._orders.strict and not decision.feasible:
                return None
            loading = self._readiness is not None and not self._readiness.ready(other)
            self.tally.begins(other)
        instead = replace(decision, note=f"{name!r} failed;", loading=loading)
        begun = failed._replace(decision=instead, stages_ms=(), latency=None)
        return self._stopping(begun) if budget.hard else begun

    def mark_bad(self, configuration: str, failure: Exception, instead: str) -> None:
        """Leaves a configuration out until it is restored: it failed where another did not."""
        text = failure_text(failure)
        with self.lock:
            marked = self.health.mark_bad(configuration, text)
        if marked:
            _LOG.error(
                "configuration %r failed and is left out from now on; %r ran instead."
                " AdaptiveEngine.restore(%r) takes it back. %s",
                configuration, instead, configuration, text,
            )  # fmt: skip

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
