"""The time since an engine was opened, which goes on whatever its clock does."""

from __future__ import annotations

from typing import final

STEP_BACK_S = 1.0
"""Threads read the clock before they take turns, so it seems to go back by less than this."""


@final
class Timeline:
    """Seconds since a moment; never fewer than before. Not for several threads at once.

    Where the clock was set back, time goes on from where it was: neither does it stand still
    until the clock has caught up, nor is any of it counted twice.

    Args:
        opened_ns: The clock's time at that moment.
    """

    def __init__(self, opened_ns: int) -> None:
        self._opened_ns = opened_ns
        self._now_s = 0.0

    def at(self, now_ns: int) -> float:
        """Returns the seconds at which the clock shows ``now_ns``."""
        now_s = (now_ns - self._opened_ns) / 1e9
        if now_s >= self._now_s:
            self._now_s = now_s
        elif self._now_s - now_s > STEP_BACK_S:
            self._opened_ns = now_ns - round(self._now_s * 1e9)
        return self._now_s
