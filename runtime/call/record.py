"""One call: as it begins, as it is remembered, and what all of them did."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, final

from ..governor.latency import predict_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..governor import Decision, OperatingPoint
    from ..governor.budget import Budget
    from ..governor.latency import LatencyEstimate

REMEMBERED_CALLS = 10_000
NO_UNITS: Mapping[str, float] = MappingProxyType({})
INFEASIBLE_AGAIN_S = 60.0
"""A budget that could be met for this long and then cannot is logged again."""
_LONGEST_TEXT = 1000


def failure_text(error: BaseException) -> str:
    """Returns why a call failed, never empty; cut, as ten thousand of them are kept."""
    text = str(error) or type(error).__name__
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} ..."


class BegunCall(NamedTuple):
    """A call that was begun: what runs and why, what was granted, and to this call alone.

    ``stages_ms`` is what a route is predicted to take up to the end of each stage, where the
    limit is hard. ``latency`` is what was known of latencies where the decision is an earlier
    one, kept; else None. ``sizes`` are those of the free dimensions, at which it takes
    ``factor`` times as long as at the typical ones.
    """

    decision: Decision
    budget: Budget
    deadline_ms: float | None
    stages_ms: tuple[float, ...] = ()
    latency: LatencyEstimate | None = None
    sizes: tuple[int, ...] = ()
    factor: float = 1.0

    @property
    def configuration(self) -> str:
        """What runs."""
        return self.decision.configuration

    @property
    def limit_ms(self) -> float | None:
        """What it may take; None for no limit."""
        return self.budget.latency_ms if self.deadline_ms is None else self.deadline_ms


class Way(NamedTuple):
    """How far a call came, which way, and with which units: see ``Reached``."""

    stage: int = 0
    alike: bool = True
    stopped_by: str = "end"
    route: tuple[str, ...] = ()
    units: Mapping[str, float] = NO_UNITS
    work: float = 1.0


PLAIN = Way()


class EndedCall(NamedTuple):
    """A call that has ended: what ``CallRecord`` is made of, once somebody asks for it."""

    time_s: float
    latency_ms: float
    begun: BegunCall
    metered_mj: float | None
    failure: str
    way: Way

    def record(self, points: Mapping[str, OperatingPoint]) -> CallRecord:
        """Returns the record; a decision that was kept with what it predicts for this call."""
        time_s, latency_ms, begun, metered_mj, failure, way = self
        stage, _, stopped_by, route, units, _ = way
        decision, budget, deadline_ms, _, latency, *_ = begun
        if latency is not None:
            point = points[decision.configuration]
            predicted_ms = predict_ms(point, latency, budget.deviations)
            decision = replace(decision, predicted_ms=predicted_ms)
        return CallRecord(
            time_s, latency_ms, decision, budget, deadline_ms, metered_mj, failure, stage,
            stopped_by, route or (decision.configuration,), units,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One finished call.

    Attributes:
        time_s: When it ended, in seconds since the engine was opened.
        latency_ms: What the backend took; the checks and the choice come on top. Of a failed
            call: until it failed.
        decision: What was decided, and why.
        budget: What was granted.
        deadline_ms: What this call alone was granted; None if nothing was said.
        metered_mj: What the meter had counted since the engine was opened; None without one.
        failure: Why the configuration gave no outputs; empty if it did.
        stage: The last stage of its route that it reached; 0 where there is one. Of a batch
            that a deadline cut, the first at which it did.
        stopped_by: What ended it: ``end`` of the route, a ``test``, or a hard ``deadline``.
        route: Which way each row went: the graph that answered it, which of a configuration of
            one graph has its name. One entry for all rows where they were not looked at alone.
        units: By unit that gates decided about, the share of the rows that it ran for; empty
            without gates.
    """

    time_s: float
    latency_ms: float
    decision: Decision
    budget: Budget
    deadline_ms: float | None = None
    metered_mj: float | None = None
    failure: str = ""
    stage: int = 0
    stopped_by: str = "end"
    route: tuple[str, ...] = ()
    units: Mapping[str, float] = field(default_factory=dict)

    @property
    def configuration(self) -> str:
        """What ran."""
        return self.decision.configuration

    @property
    def predicted_ms(self) -> float:
        """What was predicted when it was chosen."""
        return self.decision.predicted_ms

    @property
    def energy_mj(self) -> float:
        """The energy that it was expected to take; 0 where nothing was known."""
        return self.decision.predicted_mj

    @property
    def binding(self) -> str:
        """The budget that kept something more accurate from running; empty if none did."""
        return self.decision.binding

    @property
    def feasible(self) -> bool:
        """Whether the prediction was within the budget."""
        return self.decision.feasible

    @property
    def mode(self) -> str:
        """The power mode that it was decided for; empty where none is chosen."""
        return self.decision.mode

    @property
    def reason(self) -> str:
        """Why this configuration, as a sentence."""
        return self.decision.reason

    @property
    def limit_ms(self) -> float | None:
        """What the call was allowed to take; None for no limit."""
        return self.budget.latency_ms if self.deadline_ms is None else self.deadline_ms

    @property
    def within_budget(self) -> bool:
        """Whether the call took no longer than it was allowed to."""
        limit_ms = self.limit_ms
        return limit_ms is None or self.latency_ms <= limit_ms


@dataclass(frozen=True, slots=True)
class ModeStats:
    """What became of the power modes since the engine was opened.

    Attributes:
        mode: The one in force.
        changes: How often it changed.
        mode_s: For how long each was in force, in seconds.
        failure: Why the last change failed; empty if it did not.
    """

    mode: str
    changes: int
    mode_s: Mapping[str, float]
    failure: str


@final
class Tally:
    """Keeps the last calls and counts all of them; not for several threads at once."""

    def __init__(self, configurations: Iterable[str]) -> None:
        self.ended: deque[EndedCall] = deque(maxlen=REMEMBERED_CALLS)
        """The last calls that ended, oldest first."""
        self.calls = dict.fromkeys(configurations, 0)
        """Calls that gave outputs, by configuration."""
        self.switches = 0
        """Calls that ran another configuration than the call before."""
        self.infeasible = 0
        """Calls whose budget nothing was predicted to meet."""
        self._previous: str | None = None
        self.is_episode = False
        """Whether a budget could not be met lately."""
        self._infeasible_s = self._said_s = 0.0
        self._said_of: Budget | None = None

    def begins(self, configuration: str) -> None:
        """Takes note of what a call runs."""
        if self._previous is not None and self._previous != configuration:
            self.switches += 1
        self._previous = configuration

    def ends(self, call: EndedCall) -> None:
        """Takes note of a call."""
        self.ended.append(call)
        if not call.failure:
            self.calls[call.begun.decision.configuration] += 1

    def is_news(self, feasible: bool, budget: Budget, now_s: float) -> bool:
        """Takes note of whether a call's budget is expected to be met.

        Returns whether it is worth a line in the log that it is not: the first time, when it
        was met for ``INFEASIBLE_AGAIN_S``, and of another budget as long after the last line.
        What every other call meets, or a budget for each call, is not worth a thousand.
        """
        if feasible:
            self.is_episode &= now_s - self._infeasible_s < INFEASIBLE_AGAIN_S
            return False
        self.infeasible += 1
        self._infeasible_s = now_s
        is_other = budget is not self._said_of
        if self.is_episode and not (is_other and now_s - self._said_s >= INFEASIBLE_AGAIN_S):
            return False
        self.is_episode, self._said_of, self._said_s = True, budget, now_s
        return True
