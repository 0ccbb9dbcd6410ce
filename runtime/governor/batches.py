"""How much longer a batch takes than the typical one, which the table holds, size by size.

A size that was never seen is taken to cost what its rows cost, at the rate of the known size
that is nearest. What it does cost is learnt from the first calls of it, and from then on where
it follows another size, as residuals are: a change over time says nothing about it.
"""

from __future__ import annotations

import math
from typing import final

_FIRST_CALLS = 2
_MEAN_OF = 10
_LOG_STEP_LIMIT = math.log(2.0)


@final
class BatchSizes:
    """What is known of each size. Not for several threads at once."""

    def __init__(self, typical: int) -> None:
        self.typical = typical
        """The size that the table holds."""
        self._logs = {typical: 0.0}
        self._seen: dict[int, int] = {}
        self._last = typical

    def factor(self, rows: int) -> float:
        """Returns how much longer a batch takes than the typical one."""
        log = self._logs.get(rows)
        if log is None:
            near = min(self._logs, key=lambda size: abs(math.log(size / rows)))
            log = self._logs[near] + math.log(rows / near)
        return math.exp(log)

    def observe(self, rows: int, log_factor: float) -> bool:
        """Takes note of a call's latency over what the typical batch is expected to take.

        Returns whether the size is known well enough to learn something else from the call.
        """
        last, self._last = self._last, rows
        if rows == self.typical:
            return True
        seen = self._seen.get(rows, 0)
        if seen < _FIRST_CALLS or last != rows:
            known = self._logs.get(rows, log_factor)
            change = min(max(log_factor - known, -_LOG_STEP_LIMIT), _LOG_STEP_LIMIT)
            self._logs[rows] = known + change / min(seen + 1, _MEAN_OF)
            self._seen[rows] = seen + 1
        return seen >= _FIRST_CALLS
