"""Which calls run, and when what they use is freed: once, by the process that opened it."""

from __future__ import annotations

import logging
import os
import sys
import time
import weakref
from collections import Counter
from threading import RLock
from typing import TYPE_CHECKING, final

from ..errors import ClosedError
from ..executing import Executing, let_go

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack
    from types import FrameType

_LOG = logging.getLogger(__name__)

_LOOK_S = 0.002
_PATIENCE_AT_EXIT_S = 1.0
"""A thread that exit does not wait for may end its call in this time."""
_NONE: Mapping[str, int] = {}


@final
class ActiveCall:
    """What a call runs now, since when (None while no engine runs), and whether it hangs."""

    __slots__ = ("configuration", "hangs", "start_ns")

    def __init__(self) -> None:
        self.configuration, self.hangs = "", False
        self.start_ns: int | None = None

    def starts(self, configuration: str, start_ns: int) -> None:
        """Notes what runs from now on."""
        self.configuration, self.hangs, self.start_ns = configuration, False, start_ns


@final
class InFlight:
    """The calls of an engine that run now, and whether further ones may begin."""

    def __init__(self) -> None:
        self._calls: Executing[ActiveCall] = Executing()
        self._may_hang = False
        self.closed = False
        """Whether further calls are refused."""

    def begin(self, frame: FrameType) -> ActiveCall:
        """Returns the call that a function makes until ``frame`` has ended.

        Raises:
            ClosedError: The engine was closed.
        """
        call = ActiveCall()
        self._calls.enter(frame, call)
        self.check_open()  # after it is seen: whoever closes looks for calls afterwards
        return call

    def end(self, frame: FrameType) -> None:
        """Notes that a call has ended."""
        self._calls.leave(frame)

    def check_open(self) -> None:
        """Raises ``ClosedError`` if the engine was closed."""
        if self.closed:
            raise ClosedError(
                "the engine was closed. Open it again: AdaptiveEngine.open(...)."
            )

    def is_alone(self) -> bool:
        """Tells whether one call is in flight at most, but for those that hang."""
        return not self._calls.more_than(1 + sum(self.hanging().values()))

    def is_within(self, frame: FrameType) -> bool:
        """Tells whether a call is what called the function of ``frame``."""
        return self._calls.has_caller_of(frame)

    def hanging(self) -> Mapping[str, int]:
        """Returns how many calls of a configuration hang, by its name."""
        if not self._may_hang:
            return _NONE
        self._may_hang = False
        found = Counter(
            call.configuration
            for call in self._calls
            if call.hangs and call.start_ns is not None
        )
        if found:
            self._may_hang = True
        return found

    def look(self, now_ns: int, limit_ms: float) -> list[str]:
        """Notes which calls hang; returns the configurations of those that are new."""
        found = set()
        for call in self._calls:
            start_ns = call.start_ns
            late = start_ns is not None and now_ns - start_ns > limit_ms * 1e6
            if late and not call.hangs:
                call.hangs = self._may_hang = True
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
class Lifetime:
    """Frees what an engine holds once: when it is closed or collected, or at exit.

    A fork of the process that made it frees nothing. The engine is not kept alive.
    """

    def __init__(self, owner: object, in_flight: InFlight, resources: ExitStack) -> None:
        self._in_flight, self._resources = in_flight, resources
        self._process = os.getpid()
        self._freeing = RLock()
        self._forgotten = weakref.finalize(owner, _free, in_flight, resources, self._process)

    @property
    def is_here(self) -> bool:
        """Whether this is the process that made it, not a fork of it."""
        return os.getpid() == self._process

    def check(self) -> None:
        """Raises ``ClosedError`` in a fork of the process that made it."""
        if not self.is_here:
            raise ClosedError(
                "the process was forked after the engine was opened, which leaves the"
                " engine's threads behind. Open an engine in the child."
            )

    def check_open(self) -> None:
        """Raises ``ClosedError`` there, or if the engine was closed."""
        self.check()
        self._in_flight.check_open()

    def close(self) -> None:
        """Waits for the calls in flight, then frees everything. May be called again.

        Raises:
            ClosedError: A call is what called it, so that it would wait for itself.
        """
        if not self.is_here:
            return
        if self._in_flight.is_within(sys._getframe()):
            raise ClosedError(
                "close() was called from inside of a call, as by a signal's handler, and would"
                " wait for that call for ever. Let the handler raise, or set a flag, and close"
                " once the call has ended."
            )
        try:
            self._in_flight.close()
            with self._freeing:
                self._resources.close()  # each once, also if an exception comes between two
                self._forgotten.detach()
        except BaseException:
            let_go(self._freeing)
            raise


def _free(in_flight: InFlight, resources: ExitStack, process: int) -> None:
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
