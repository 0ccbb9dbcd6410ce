"""Telling that a call hangs.

A call that hangs inside of a library cannot be stopped from Python: its thread stays where it
is. What can be done is to say so and to keep further calls away from that engine, so that the
application may carry on or restart the process.
"""

from __future__ import annotations

import logging
from threading import Event, Lock, Thread, current_thread
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

_LOG = logging.getLogger(__name__)

_LOOKS_PER_LIMIT = 4
_SHORTEST_WAIT_S = 0.01
_LONGEST_WAIT_S = 60.0


@final
class Watchdog:
    """Looks, from a thread of its own, for calls that take longer than a limit.

    Args:
        limit_ms: How long a call may take before it is said to hang.
        now_ns: The clock that calls are timed with.
        report: Called with a configuration and how many of its calls hang, when that
            changes; one report at a time, in the order of what happened.
    """

    def __init__(
        self, limit_ms: float, now_ns: Callable[[], int], report: Callable[[str, int], None]
    ) -> None:
        self._limit_ms = limit_ms
        self._now_ns = now_ns
        self._report = report
        self._running: dict[int, tuple[str, int]] = {}
        self._hanging: dict[int, str] = {}
        self._next = 0
        self._lock = Lock()
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Starts looking; without it, ``look`` does so when it is called."""
        self._thread = Thread(target=self._run, name="skipc-watchdog", daemon=True)
        self._thread.start()

    def begin(self, configuration: str) -> int:
        """Takes note of a call that begins; returns its ticket."""
        with self._lock:
            self._next += 1
            self._running[self._next] = (configuration, self._now_ns())
            return self._next

    def end(self, ticket: int) -> None:
        """Takes note that a call ended."""
        with self._lock:
            configuration, started_ns = self._running.pop(ticket)
            hung = self._hanging.pop(ticket, None) is not None
            if hung:
                self._report_hanging(configuration)
        if hung:
            _LOG.warning(
                "the call of configuration %r that hung ended after %.4g ms.",
                configuration, (self._now_ns() - started_ns) / 1e6,
            )  # fmt: skip

    def look(self) -> None:
        """Reports the calls that have come to hang since it looked last."""
        now_ns = self._now_ns()
        found: set[str] = set()
        with self._lock:
            for ticket, (configuration, started_ns) in self._running.items():
                late = now_ns - started_ns > self._limit_ms * 1e6
                if late and ticket not in self._hanging:
                    self._hanging[ticket] = configuration
                    found.add(configuration)
            for configuration in sorted(found):
                self._report_hanging(configuration)
        for configuration in sorted(found):
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

    def _report_hanging(self, configuration: str) -> None:
        """Reports; the lock is held, or a report could be overtaken by a later one."""
        self._report(configuration, list(self._hanging.values()).count(configuration))

    def _run(self) -> None:
        wait_s = self._limit_ms / 1000 / _LOOKS_PER_LIMIT
        wait_s = min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
        while not self._stop.wait(wait_s):
            self.look()


def started_watchdog(
    limit_ms: float | None,
    now_ns: Callable[[], int],
    report: Callable[[str, int], None],
    stack: ExitStack,
) -> Watchdog | None:
    """Returns a watchdog that looks from now on; None for no limit.

    Args:
        limit_ms: How long a call may take before it is said to hang.
        now_ns: The clock that calls are timed with.
        report: See ``Watchdog``.
        stack: Gets its ``close``.
    """
    if limit_ms is None:
        return None
    watchdog = Watchdog(limit_ms, now_ns, report)
    stack.callback(watchdog.close)
    watchdog.start()
    return watchdog
