"""The governor in use: its state, kept for calls from many threads.

The governor is pure; this is where its state lives, under one lock. A call begins here, with
a choice, and ends here, with what it took.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass, replace
from threading import Condition, Lock
from typing import TYPE_CHECKING, final

from .budget import check_possible, checked_budget
from .call_record import CallRecord
from .errors import BudgetError, ChoiceError, ClosedError, choices_text
from .governor import after_call, after_choice, after_reading, before_choice, decide
from .health import Health
from .readiness import Choice, choose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .backends import Engine
    from .budget import Budget
    from .governor import Decision, OperatingPoint, State
    from .metering import Metering

_LOG = logging.getLogger(__name__)

REMEMBERED_CALLS = 10_000
INFEASIBLE_AGAIN_S = 60.0
"""A budget that could be met for this long and then cannot is logged again."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened since the engine was opened.

    Attributes:
        calls: Calls finished, by configuration.
        switches: Calls that ran another configuration than the call before.
        infeasible_calls: Calls whose budget nothing was predicted to meet.
        bad: Why a configuration is left out, by its name.
        hanging: How many calls of a configuration hang, by its name.
        metered_mj: What the meter counted; None without one.
        meter_lost: Whether the meter says nothing that can be believed.
        state: What was learnt.
    """

    calls: Mapping[str, int]
    switches: int
    infeasible_calls: int
    bad: Mapping[str, str]
    hanging: Mapping[str, int]
    metered_mj: float | None
    meter_lost: bool
    state: State


@final
class Controller:
    """Decides for each call, and learns from it.

    Args:
        points: What the governor knows of each configuration.
        state: What it knows at the start.
        budget: What calls may take; None for no limit.
        strict: Whether a call that nothing is predicted to fit is refused.
        ranked_by: What the points' rank is: ``accuracy`` or something else.
        metering: The meter; None without one.
        opened_ns: The clock's time now.

    Raises:
        BudgetError: No configuration can meet ``budget``, whatever is learnt.
    """

    def __init__(
        self,
        points: Mapping[str, OperatingPoint],
        state: State,
        *,
        budget: Budget | None,
        strict: bool,
        ranked_by: str,
        metering: Metering | None,
        opened_ns: int,
    ) -> None:
        self.points = points
        self._order = tuple(points.values())
        self._health = Health(self._order)
        self._state = state
        self._strict = strict
        self._ranked_by = ranked_by
        self._metering = metering
        self._budget = self._checked(budget)
        self._opened_ns = opened_ns
        self._idle_since_s = 0.0
        self._pinned: str | None = None
        self._previous: str | None = None
        self._infeasible_s = -math.inf
        self._records: deque[CallRecord] = deque(maxlen=REMEMBERED_CALLS)
        self._calls = dict.fromkeys(points, 0)
        self._switches = self._infeasible = self._in_flight = 0
        self._closed = False
        self._lock = Lock()
        self._ended = Condition(self._lock)

    def begin(
        self, now_ns: int, engines: Mapping[str, Engine], deadline_ms: float | None = None
    ) -> tuple[Choice, Budget]:
        """Returns what the call that begins now runs, and what it is granted.

        Every call that begins must ``end``.

        Args:
            now_ns: The clock's time.
            engines: The engines by configuration.
            deadline_ms: What this call may take instead of the budget's latency.

        Raises:
            BudgetError: ``strict`` is set and nothing is predicted to fit.
            ClosedError: The engine was closed.
        """
        now_s = (now_ns - self._opened_ns) / 1e9
        with self._lock:
            self.check_open()
            budget = self._budget
            idle_s = max(now_s - self._idle_since_s, 0.0) if self._in_flight == 0 else 0.0
            self._idle_since_s = now_s
            if self._metering is not None:
                self._read_meter(self._metering, idle_s, now_s)
            state = before_choice(self._state, budget, now_s, idle_s)
            points = self._health.usable() if self._pinned is None else self._order
            choice = choose(points, budget, state, now_s, self._pinned, deadline_ms, engines)
            decision = choice.decision
            self._state = after_choice(state, budget, decision, now_s, deadline_ms)
            self._note_feasibility(decision, now_s)
            self._in_flight += 1
            self._note_configuration(decision.configuration)
        return choice, budget

    def end(
        self,
        choice: Choice,
        budget: Budget,
        now_ns: int,
        latency_ms: float,
        deadline_ms: float | None = None,
        failure: str = "",
    ) -> None:
        """Takes note of what a call took.

        Args:
            choice: What ``begin`` returned.
            budget: Likewise.
            now_ns: The clock's time.
            latency_ms: What the call took, or how long it took to fail.
            deadline_ms: What this call was granted.
            failure: Why it failed; empty if it did not.
        """
        now_s = (now_ns - self._opened_ns) / 1e9
        decision = choice.decision
        name = decision.configuration
        with self._lock:
            learns = choice.learns and not failure and latency_ms >= 0
            seen_ms = latency_ms if learns else None
            self._state = after_call(self._state, budget, self.points[name], seen_ms, now_s)
            metered_mj = None
            if self._metering is not None:
                metered_mj = self._metering.total_mj
                spent_mj = self._state.energy.call_mj.get(name, 0.0)
                self._metering.charge_call(name, spent_mj)
            if not failure:
                self._calls[name] += 1
            self._records.append(
                CallRecord(
                    now_s, latency_ms, decision, budget, deadline_ms, metered_mj, failure
                )
            )
            self._in_flight -= 1
            self._idle_since_s = now_s
            if self._closed:
                self._ended.notify_all()

    def _read_meter(self, metering: Metering, idle_s: float, now_s: float) -> None:
        metering.charge_idle(idle_s * self._state.energy.idle_w * 1000)
        interval = metering.ended_interval(now_s)
        if interval is not None and interval.measured_mj is not None:
            self._state = after_reading(self._state, interval.spent, interval.measured_mj)

    def stand_in(
        self, failed: Choice, now_ns: int, deadline_ms: float | None
    ) -> tuple[Choice, Budget] | None:
        """Returns what runs in place of a call that failed: the next cheaper configuration.

        Where none is cheaper, that is the cheapest of the others. Like ``begin``, it must
        ``end``.

        Returns:
            None where the caller had pinned the configuration, or there is no other.
        """
        name = failed.decision.configuration
        now_s = (now_ns - self._opened_ns) / 1e9
        with self._lock:
            self.check_open()
            point = self._health.stand_in(self.points[name])
            if failed.decision.pinned or point is None:
                return None
            budget = self._budget
            decision = decide([point], budget, self._state, now_s, deadline_ms=deadline_ms)
            self._in_flight += 1
            self._note_configuration(point.configuration)
        return Choice(replace(decision, note=f"{name!r} failed;"), learns=False), budget

    def mark_bad(self, configuration: str, failure: str, instead: str) -> None:
        """Leaves a configuration out until it is restored: it failed where another did not."""
        with self._lock:
            self._health.mark_bad(configuration, failure, instead)

    def restore(self, configuration: str) -> None:
        """Takes a configuration back that was left out.

        Raises:
            ChoiceError: There is no such configuration.
        """
        self._check_name(configuration)
        with self._lock:
            self._health.restore(configuration)

    def set_hanging(self, configuration: str, calls: int) -> None:
        """Takes note of how many calls of a configuration hang; it is avoided meanwhile."""
        with self._lock:
            self._health.set_hanging(configuration, calls)

    def _note_configuration(self, configuration: str) -> None:
        if self._previous is not None and self._previous != configuration:
            self._switches += 1
        self._previous = configuration

    def _note_feasibility(self, decision: Decision, now_s: float) -> None:
        if decision.feasible:
            return
        self._infeasible += 1
        if self._strict:
            raise BudgetError(
                f"no call within the budget: {decision.reason} Grant more, or open the engine"
                " without strict."
            )
        if now_s - self._infeasible_s > INFEASIBLE_AGAIN_S:
            _LOG.warning("the budget cannot be met: %s", decision.reason)
        self._infeasible_s = now_s

    @property
    def budget(self) -> Budget:
        """What calls may take; setting it takes effect from the next call on."""
        return self._budget

    @budget.setter
    def budget(self, budget: Budget | None) -> None:
        self.check_open()
        self._budget = self._checked(budget)
        self._infeasible_s = -math.inf

    def _checked(self, given: Budget | None) -> Budget:
        """Returns a budget after checking it against what is known of the configurations."""
        budget = checked_budget(given)
        check_possible(budget, self._order, self._ranked_by, bool(self._state.energy.call_mj))
        return budget

    def pin(self, configuration: str | None) -> None:
        """Makes every further call run one configuration; None gives the choice back.

        Raises:
            ChoiceError: There is no such configuration.
            ClosedError: The engine was closed.
        """
        self.check_open()
        if configuration is not None:
            self._check_name(configuration)
        self._pinned = configuration

    def _check_name(self, configuration: str) -> None:
        if configuration not in self.points:
            raise ChoiceError(
                f"there is no configuration {configuration!r}."
                f" {choices_text(str(configuration), self.points)}"
            )

    def records(self) -> tuple[CallRecord, ...]:
        """Returns the last calls that finished, oldest first."""
        with self._lock:
            return tuple(self._records)

    @property
    def last(self) -> CallRecord | None:
        """The call that finished last; None before the first."""
        records = self._records
        return records[-1] if records else None

    def counts(self) -> Counts:
        """Returns what happened so far."""
        with self._lock:
            metering = self._metering
            return Counts(
                calls=dict(self._calls),
                switches=self._switches,
                infeasible_calls=self._infeasible,
                bad=self._health.bad,
                hanging=self._health.hanging,
                metered_mj=None if metering is None else metering.total_mj,
                meter_lost=metering is not None and metering.lost,
                state=self._state,
            )

    def check_open(self) -> None:
        """Raises ``ClosedError`` if the engine was closed."""
        if self._closed:
            raise ClosedError(
                "the engine was closed. Open it again: AdaptiveEngine.open(...)."
            )

    def close(self) -> None:
        """Refuses further calls, and waits for those in flight."""
        with self._lock:
            self._closed = True
            self._ended.wait_for(lambda: self._in_flight == 0)
