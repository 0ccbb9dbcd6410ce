"""One call: as it begins, and as it is remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..governor import Decision
    from ..governor.budget import Budget

_LONGEST_TEXT = 1000


def failure_text(error: BaseException) -> str:
    """Returns why a call failed, never empty; cut, as ten thousand of them are kept."""
    text = str(error) or type(error).__name__
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} ..."


class BegunCall(NamedTuple):
    """A call that was begun, and that must end.

    Attributes:
        decision: What runs, and why.
        budget: What was granted.
        deadline_ms: What this call alone was granted; None if nothing was said.
    """

    decision: Decision
    budget: Budget
    deadline_ms: float | None

    @property
    def configuration(self) -> str:
        """What runs."""
        return self.decision.configuration


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
        stage: The last stage of its route that it reached; 0 where there is one.
    """

    time_s: float
    latency_ms: float
    decision: Decision
    budget: Budget
    deadline_ms: float | None = None
    metered_mj: float | None = None
    failure: str = ""
    stage: int = 0

    @property
    def configuration(self) -> str:
        """What ran."""
        return self.decision.configuration

    @property
    def predicted_ms(self) -> float:
        """What was predicted when it was chosen."""
        return self.decision.predicted_ms

    @property
    def feasible(self) -> bool:
        """Whether the prediction was within the budget."""
        return self.decision.feasible

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
