"""Where latency is read from: the monotonic clock, or one that tests move by hand."""

from __future__ import annotations

import time
from typing import Protocol

STEP_BACK_S = 1.0
"""Threads read the clock before they take turns, so it seems to go back by less than this."""


class Clock(Protocol):
    """A clock that never goes back."""

    def now_ns(self) -> int:
        """Returns nanoseconds since some fixed moment."""


class SystemClock:
    """The clock that ``time.perf_counter_ns`` reads."""

    __slots__ = ()

    now_ns = staticmethod(time.perf_counter_ns)
    """Returns nanoseconds since some fixed moment."""


class FakeClock:
    """A clock that stands still until it is moved, for tests and scripted latencies."""

    __slots__ = ("_now_ns",)

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        """Returns the nanoseconds that it was moved by so far."""
        return self._now_ns

    def advance_ms(self, duration_ms: float) -> None:
        """Moves the clock on.

        Raises:
            ValueError: ``duration_ms`` is below zero or not a number.
        """
        if not duration_ms >= 0:
            raise ValueError(f"a clock cannot go back: duration_ms={duration_ms!r}.")
        duration_ns = round(duration_ms * 1e6)
        self._now_ns += duration_ns  # calls nothing, so that no other thread comes in between


class Elapsed:
    """The seconds since ``start_ns``; never fewer than before, whatever the clock shows.

    Where the clock was set back, time goes on from where it was; neither does it stand still
    until the clock has caught up, nor is any of it counted twice. Not for several threads at
    once.
    """

    __slots__ = ("_now_s", "_start_ns")

    def __init__(self, start_ns: int) -> None:
        self._start_ns, self._now_s = start_ns, 0.0

    def at(self, now_ns: int) -> float:
        """Returns the seconds at which the clock shows ``now_ns``."""
        now_s = (now_ns - self._start_ns) / 1e9
        if now_s >= self._now_s:
            self._now_s = now_s
        elif self._now_s - now_s > STEP_BACK_S:
            self._start_ns = now_ns - round(self._now_s * 1e9)
        return self._now_s
