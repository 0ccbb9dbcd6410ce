"""Which calls run, which of them hang, and what is left to do when none does.

A call that hangs inside of a library cannot be stopped from Python: its thread stays where it
is. What can be done is to say so and to keep further calls away from that engine, so that the
application may carry on or restart the process.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING, final

from ..errors import ClosedError
from ..executing import Executing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack
    from types import FrameType

_LOG = logging.getLogger(__name__)

_LOOKS_PER_LIMIT = 4
_SHORTEST_WAIT_S = 0.01
_LONGEST_WAIT_S = 60.0
_LOOK_S = 0.002
_PATIENCE_AT_EXIT_S = 1.0
"""A thread that exit does not wait for may end its call in this time."""
_NONE: Mapping[str, int] = {}


@final
class ActiveCall:
    """What a call runs now, since when (None while no engine runs), and whether it hangs."""

    configuration, hangs = "", False  # of the class, which makes a call cheap
    start_ns: int | None = None

    def starts(self, configuration: str, start_ns: int) -> None:
        """Notes what runs from now on."""
        self.configuration, self.hangs, self.start_ns = configuration, False, start_ns


@final
class InFlight:
    """The calls of an engine that run now, and whether further ones may begin."""

    def __init__(self) -> None:
        self._calls: Executing[ActiveCall] = Executing()
        self.end = self._calls.leave
        """Notes that the call of a frame has ended."""
        self.may_hang = False
        """Whether one of them may hang: see ``hanging``."""
        self.closed = False
        """Whether further calls are refused."""

    def begin(self, frame: FrameType) -> ActiveCall:
        """Returns the call that a function makes until ``frame`` has ended.

        Raises:
            ClosedError: The engine was closed.
        """
        call = ActiveCall()
        self._calls.enter(frame, call)
        if self.closed:  # after it is seen: whoever closes looks for calls afterwards
            self.check_open()
        return call

    def check_open(self) -> None:
        """Raises ``ClosedError`` if the engine was closed."""
        if self.closed:
            raise ClosedError(
                "the engine was closed. Open it again: AdaptiveEngine.open(...)."
            )

    def is_alone(self) -> bool:
        """Tells whether one call is in flight at most, but for those that hang."""
        hanging = self.hanging()
        return not self._calls.more_than(1 + sum(hanging.values()) if hanging else 1)

    def is_within(self, frame: FrameType) -> bool:
        """Tells whether a call is what called the function of ``frame``."""
        return self._calls.has_caller_of(frame)

    def hanging(self) -> Mapping[str, int]:
        """Returns how many calls of a configuration hang, by its name."""
        if not self.may_hang:
            return _NONE
        self.may_hang = False
        found = Counter(
            call.configuration
            for call in self._calls
            if call.hangs and call.start_ns is not None
        )
        if found:
            self.may_hang = True
        return found

    def look(self, now_ns: int, limit_ms: float) -> list[str]:
        """Notes which calls hang; returns the configurations of those that are new."""
        found = set()
        for call in self._calls:
            start_ns = call.start_ns
            late = start_ns is not None and now_ns - start_ns > limit_ms * 1e6
            if late and not call.hangs:
                call.hangs = self.may_hang = True
                found.add(call.configuration)
        return sorted(found)

    def close(self, patience_s: float | None = None) -> bool:
        """Refuses further calls, and waits for those in flight; tells whether none is.

        ``patience_s`` is how long it waits at most; None until none is in flight.
        """
        self.closed = True
        until_s = None if patience_s is None else time.monotonic() + patience_s
        while self._calls.more_than(0):
            if until_s is not None and time.monotonic() >= until_s:
                return False
            time.sleep(_LOOK_S)
        return True


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


def free(in_flight: InFlight, resources: ExitStack, process: int) -> None:
    """Frees what an engine holds that nobody closed; not in a fork of its process."""
    if os.getpid() != process:
        return
    if in_flight.close(_PATIENCE_AT_EXIT_S):
        resources.close()
    else:
        # Only at exit, in a thread that exit does not wait for.
        _LOG.warning(
            "the process ends while a call runs on an engine that was never closed: what the"
            " engine holds is left to the system."
        )
