"""What an engine's calls did, as numbers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..governor.budget import Budget
    from .record import CallRecord

REMEMBERED_CALLS = 10_000
INFEASIBLE_AGAIN_S = 60.0
"""A budget that could be met for this long and then cannot is logged again."""


@final
class Tally:
    """Keeps the last calls and counts all of them; not for several threads at once.

    Args:
        configurations: Their names.
    """

    def __init__(self, configurations: Iterable[str]) -> None:
        self.records: deque[CallRecord] = deque(maxlen=REMEMBERED_CALLS)
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

    def ends(self, record: CallRecord) -> None:
        """Takes note of a call."""
        self.records.append(record)
        if not record.failure:
            self.calls[record.configuration] += 1

    def is_news(self, feasible: bool, budget: Budget, now_s: float) -> bool:
        """Takes note of whether a call's budget is expected to be met.

        Returns:
            Whether it is worth a line in the log that it is not: the first time, when it was
            met for ``INFEASIBLE_AGAIN_S``, and of another budget as long after the last line.
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
