"""Telling that a call hangs.

A call that hangs inside of a library cannot be stopped from Python: its thread stays where it
is. What can be done is to say so and to keep further calls away from that engine, so that the
application may carry on or restart the process.
"""

from __future__ import annotations

import logging
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from .lifetime import ActiveCall, InFlight

_LOG = logging.getLogger(__name__)

_LOOKS_PER_LIMIT = 4
_SHORTEST_WAIT_S = 0.01
_LONGEST_WAIT_S = 60.0


@final
class Watchdog:
    """Looks, from a thread of its own, for calls that take longer than a limit."""

    def __init__(
        self, limit_ms: float, now_ns: Callable[[], int], in_flight: InFlight
    ) -> None:
        self._limit_ms, self._now_ns, self._in_flight = limit_ms, now_ns, in_flight
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Starts looking; without it, ``look`` does so when it is called."""
        self._thread = Thread(target=self._run, name="skipc-watchdog", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Says which calls have come to hang since it looked last."""
        for configuration in self._in_flight.look(self._now_ns(), self._limit_ms):
            _LOG.error(
                "a call of configuration %r has been running for more than %g ms; other calls"
                " avoid it while it hangs. It cannot be stopped from here: if it does not come"
                " back, restart the process.",
                configuration, self._limit_ms,
            )  # fmt: skip

    def close(self) -> None:
        """Stops looking. May be called again."""
        self._stop.set()
        # An engine that is forgotten may be collected in any thread, this one included.
        if self._thread is not None and self._thread is not current_thread():
            self._thread.join()

    def _run(self) -> None:
        wait_s = self._limit_ms / 1000 / _LOOKS_PER_LIMIT
        wait_s = min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
        while not self._stop.wait(wait_s):
            self.look()


def say_back(call: ActiveCall, took_ms: float) -> None:
    """Says that a call which hung has ended."""
    _LOG.warning(
        "the call of configuration %r that hung ended after %.4g ms.",
        call.configuration, took_ms,
    )  # fmt: skip


def start_watchdog(
    limit_ms: float | None, now_ns: Callable[[], int], in_flight: InFlight, stack: ExitStack
) -> None:
    """Looks for calls that hang from now on, until ``stack`` ends; not without a limit."""
    if limit_ms is not None:
        watchdog = Watchdog(limit_ms, now_ns, in_flight)
        stack.callback(watchdog.close)
        watchdog.start()
