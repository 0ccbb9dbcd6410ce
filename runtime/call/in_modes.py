"""The governor in use where power modes are chosen, too: points change with the mode.

A call decides and learns in the mode in force as one of any engine does. Which mode is wanted
is looked at from outside of the calls, and a change takes time: until it is done, calls are
predicted as in the slower of both modes, and nothing is learnt from them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, final

from ..errors import ChoiceError
from ..governor.modes import after_change, choose_mode
from ..load.points import points_by_name
from .controller import Controller
from .record import PLAIN, ModeStats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..governor import Decision, OperatingPoint, State
    from ..governor.budget import Budget
    from ..governor.modes import Mode, ModesState
    from ..governor.sizes import CallSizes
    from .lifetime import InFlight
    from .metering import Metering
    from .orders import Orders
    from .readiness import Readiness
    from .record import BegunCall, CallRecord, EndedCall, Way

PACE_S = 10.0
"""Over how long the calls' pace is averaged."""


@final
class ControllerInModes(Controller):
    """A controller whose points are those of the power mode in force.

    ``modes`` are those that may be; ``known`` says which one is in force, and its points are
    ``points``. All else is as for ``Controller``.
    """

    def __init__(
        self,
        modes: Sequence[Mode],
        known: ModesState,
        points: Mapping[str, OperatingPoint],
        state: State,
        orders: Orders,
        in_flight: InFlight,
        metering: Metering | None = None,
        readiness: Readiness | None = None,
        opened_ns: int = 0,
        sizes: CallSizes | None = None,
    ) -> None:
        super().__init__(
            *(points, state, orders, in_flight, metering, readiness, opened_ns, sizes)
        )
        self._modes = {mode.name: mode for mode in modes}
        self._points = {mode.name: points_by_name(mode.points) for mode in modes}
        self._known = known
        self._inner, self._choose = self._choose, self._chosen
        self._target = ""
        self._began_s = 0.0
        self._changes, self._failure = 0, ""
        self._mode_s = dict.fromkeys(self._modes, 0.0)
        self._looked_s = self._seen_s = self._pace_s = self._pace_calls = 0.0
        self._calls = 0
        self._looked: State | None = None

    @property
    def mode(self) -> str:
        """The mode that calls are predicted in."""
        return self._known.mode

    def _chosen(
        self,
        points: Sequence[OperatingPoint],
        budget: Budget,
        state: State,
        now_s: float,
        pinned: str | None,
        deadline_ms: float | None,
    ) -> Decision:
        decision = self._inner(points, budget, state, now_s, pinned, deadline_ms)
        if not self._target:
            return replace(decision, mode=self.mode)
        note = f"The device changes into the mode {self._target!r}: {decision.note}".rstrip()
        return replace(decision, mode=self.mode, note=note, loading=True)

    def end(
        self,
        call: BegunCall,
        now_ns: int,
        latency_ms: float,
        failure: str = "",
        ran: bool = True,
        way: Way = PLAIN,
    ) -> None:
        """Takes note of what a call took; nothing is learnt from one within a change."""
        with self.lock:
            if self._target or call.decision.mode != self.mode:
                way = way._replace(alike=False)
            super().end(call, now_ns, latency_ms, failure, ran, way)

    def stand_in(self, failed: BegunCall, now_ns: int) -> BegunCall | None:
        """Returns what runs in place of a call that failed: see ``Controller``."""
        with self.lock:
            begun = super().stand_in(failed, now_ns)
            if begun is None:
                return None
            return begun._replace(decision=replace(begun.decision, mode=self.mode))

    def add(self, point: OperatingPoint) -> None:
        """Refuses another configuration: nobody measured it in each mode.

        Raises:
            ChoiceError: Always.
        """
        raise ChoiceError(
            f"configuration {point.configuration!r} cannot be added while modes are chosen:"
            " what it takes in each of them is not known. Open the engine without modes."
        )

    def wanted(self, now_ns: int) -> str:
        """Returns the mode that is to be in force; the one that is, where that is the best.

        One thread at a time asks. It takes some hundred microseconds, without the lock.
        """
        with self.lock:
            now_s, state, budget = self._elapsed.at(now_ns), self.state, self._orders.budget
            calls, pinned = sum(self.tally.calls.values()), self._orders.pinned
            usable = self.health.usable(self.in_flight.hanging())
        self._looked_s = now_s
        names = {point.configuration for point in usable} if pinned is None else {pinned}
        period_ms = self._period_ms(now_s, calls)
        modes = tuple(self._modes.values())
        if state is self._looked and budget is self._known.budget and not self._known.better_s:
            return self.mode  # no call came
        self._looked = state
        choice = choose_mode(modes, self._known, state, budget, now_s, period_ms, names)
        self._known = choice.state
        return choice.to

    def _period_ms(self, now_s: float, calls: int) -> float:
        """Returns how long it took lately from one call to the next; 0 before two."""
        since_s, came = now_s - self._seen_s, calls - self._calls
        if came:  # else a pause would stretch it for ever
            kept = math.exp(-since_s / PACE_S)
            self._pace_s = kept * self._pace_s + since_s
            self._pace_calls = kept * self._pace_calls + came
            self._seen_s, self._calls = now_s, calls
        return 1000 * self._pace_s / self._pace_calls if self._pace_calls > 1 else 0.0

    def begin_change(self, to: str, now_ns: int) -> None:
        """Takes note that the device begins to change into another mode."""
        with self.lock:
            self._target, self._began_s = to, self._elapsed.at(now_ns)
            self._keeper.forget()
            if self._modes[to].log_speed > self._modes[self.mode].log_speed:
                self._enter(to, self._began_s, 0.0)

    def end_change(self, now_ns: int) -> None:
        """Takes note that it has changed."""
        with self.lock:
            now_s, to = self._elapsed.at(now_ns), self._target
            took_s = now_s - self._began_s
            self._target, self._failure = "", ""
            self._changes += 1
            if to == self.mode:
                change_s = {**self._known.change_s, to: took_s}
                self._known = self._known._replace(change_s=change_s)
            else:
                self._enter(to, now_s, took_s)

    def fail_change(self, now_ns: int, before: str, why: str) -> None:
        """Takes note that it has not changed, and is in the mode ``before`` again."""
        with self.lock:
            self._target, self._failure = "", why
            if before != self.mode:
                self._enter(before, self._elapsed.at(now_ns), 0.0)

    def _enter(self, to: str, now_s: float, took_s: float) -> None:
        """Predicts calls in another mode from now on: what was decided counts no more."""
        self._mode_s[self.mode] += now_s - self._known.since_s
        modes = tuple(self._modes.values())
        self._known, self.state = after_change(
            modes, self._known, self.state, to, now_s, took_s
        )
        self.points = self._points[to]
        self._order = self._modes[to].points
        self.health.measured(self._order)
        self._keeper.forget()
        if self.metering is not None:
            self.metering.changes()

    def mode_stats(self) -> ModeStats:
        """Returns what became of the modes, up to when it was last looked at."""
        mode_s = dict(self._mode_s)
        mode_s[self.mode] += max(self._looked_s - self._known.since_s, 0.0)
        return ModeStats(self.mode, self._changes, mode_s, self._failure)

    def records(self) -> tuple[CallRecord, ...]:
        """Returns the last calls that finished, oldest first."""
        with self.lock:
            ended = tuple(self.tally.ended)
        return tuple(map(self._record, ended))

    @property
    def last(self) -> CallRecord | None:
        """The call that finished last; None before the first."""
        ended = self.tally.ended
        return self._record(ended[-1]) if ended else None

    def _record(self, call: EndedCall) -> CallRecord:
        return call.record(self._points[call.begun.decision.mode])
