"""Where latency is read from: the monotonic clock, or one that tests move by hand."""

from __future__ import annotations

import time
from threading import Lock
from typing import Protocol


class Clock(Protocol):
    """A clock that never goes back."""

    def now_ns(self) -> int:
        """Returns nanoseconds since some fixed moment."""
        ...


class SystemClock:
    """The clock that ``time.perf_counter_ns`` reads."""

    __slots__ = ()

    def now_ns(self) -> int:
        """Returns nanoseconds since some fixed moment."""
        return time.perf_counter_ns()


class FakeClock:
    """A clock that stands still until it is moved, for tests and scripted latencies."""

    __slots__ = ("_lock", "_now_ns")

    def __init__(self) -> None:
        self._now_ns = 0
        self._lock = Lock()

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
        with self._lock:
            self._now_ns += round(duration_ms * 1e6)
