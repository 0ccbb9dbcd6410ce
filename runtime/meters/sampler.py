"""Reads a meter in the background, so that nobody who is in a hurry has to."""

from __future__ import annotations

import logging
import os
import weakref
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING

from ..clock import SystemClock
from ..errors import MeterError

if TYPE_CHECKING:
    from ..clock import Clock
    from .meter import Meter, Reading

_LOG = logging.getLogger(__name__)

# A thread that wakes up more often than this costs more than it tells.
_LEAST_PERIOD_S = 0.01

# A meter that fails is tried again after twice the time, up to this.
_LONGEST_PAUSE_S = 5.0

# How long `close` waits for a read that is under way.
_PATIENCE_S = 2.0

_CLOSED = "it was closed"
_FORKED = "this process was forked from the one that reads it: call start() here, too"


class Sampler:
    """Keeps the latest reading of a meter.

    ``start`` begins a daemon thread that reads at the meter's own rate; ``poll`` reads once,
    for those who keep time themselves and start no thread. A meter that cannot be read is
    tried again, less and less often; it is logged once when that begins and once when it ends.
    The sampler owns the meter and closes it. One that is forgotten stops its thread and closes
    its meter when it is collected.

    A forked process has no thread: there ``latest`` is None and ``failure`` says so, until
    ``start`` is called. NVML does not survive a fork: open a new meter.

    Attributes:
        meter: The meter that is read.
        latest: The last reading that succeeded, None before the first. Read it without a lock;
            it may be old: see ``failure`` and ``age_s``.
        failure: Why there is no newer one; empty while all is well.
    """

    def __init__(
        self, meter: Meter, clock: Clock | None = None, period_s: float | None = None
    ) -> None:
        """Makes a sampler that does not read yet.

        Args:
            meter: What to read; from now on the sampler's.
            clock: The meter's clock, to tell a reading's age; None for the system's.
            period_s: Seconds between two reads; None for the meter's own, 10 ms at least.
        """
        if period_s is not None and not 0 < period_s < float("inf"):
            raise MeterError(
                f"period_s is {period_s!r}: expected seconds above zero, or None for the"
                " meter's own rate."
            )
        self.meter = meter
        self.latest: Reading | None = None
        self.failure = ""
        self.period_s = max(_LEAST_PERIOD_S, meter.period_s) if period_s is None else period_s
        self._clock = SystemClock() if clock is None else clock
        self._failures = 0
        self._thread: Thread | None = None
        self._stop = Event()
        self._end = self._finalizer()
        _LIVING.add(self)

    def start(self) -> None:
        """Begins to read in the background, unless it does already.

        Raises:
            MeterError: It was closed.
        """
        if self._stop.is_set():
            raise MeterError(f"the sampler of {self.meter.name!r} was closed. Make a new one.")
        if self._thread is None or not self._thread.is_alive():
            # The thread holds no reference to the sampler while it waits: see the class.
            arguments = (weakref.ref(self), self._stop)
            self._thread = Thread(
                target=_run, args=arguments, name=f"meter {self.meter.name}", daemon=True
            )
            self._thread.start()

    def poll(self) -> float:
        """Reads once.

        Returns:
            Seconds until it should be read again.
        """
        try:
            reading = self.meter.read()
        except Exception as error:  # whatever a meter raises, the next read may succeed
            return self._failed(error)
        self.latest = reading
        if self._failures:
            _LOG.warning("meter %s is read again", self.meter.name)
        self._failures = 0
        self.failure = ""
        return self.period_s

    def age_s(self) -> float | None:
        """Returns how old ``latest`` is in seconds; None while there is none."""
        latest = self.latest
        return None if latest is None else (self._clock.now_ns() - latest.time_ns) * 1e-9

    def close(self) -> None:
        """Stops reading and closes the meter. May be called twice."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not current_thread():
            thread.join(_PATIENCE_S)
            if thread.is_alive():
                _LOG.warning(
                    "meter %s does not answer: it is left open until the process ends",
                    self.meter.name,
                )
                self._end.detach()
        self.failure = self.failure or _CLOSED
        self._end()

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        known = isinstance(error, MeterError)
        self.failure = str(error) if known else f"{type(error).__name__}: {error}"
        if self._failures == 1:
            # Its text: the error itself would hold the frames it passed.
            _LOG.warning("meter %s cannot be read: %s", self.meter.name, self.failure)
        pause_s = self.period_s * 2.0 ** min(self._failures, 30)
        return max(self.period_s, min(pause_s, _LONGEST_PAUSE_S))

    def _finalizer(self) -> weakref.finalize[[Event, Meter], Sampler]:
        finalizer = weakref.finalize(self, _end, self._stop, self.meter)
        # At exit a thread may be reading; the system frees the meter.
        finalizer.atexit = False
        return finalizer

    def _forget(self) -> None:
        """Takes back what the parent process read, and the locks that it may have held."""
        if self._stop.is_set():
            return
        self.latest = None
        self.failure = _FORKED
        self._thread = None
        self._stop = Event()
        self._end.detach()
        self._end = self._finalizer()


_LIVING: weakref.WeakSet[Sampler] = weakref.WeakSet()


def _run(reference: weakref.ref[Sampler], stop: Event) -> None:
    pause_s = 0.0
    while not stop.wait(pause_s):
        sampler = reference()
        if sampler is None:
            return
        pause_s = sampler.poll()
        del sampler


def _end(stop: Event, meter: Meter) -> None:
    stop.set()
    try:
        meter.close()
    except Exception as error:  # nobody is left who could act on it
        _LOG.warning("meter %s could not be closed: %s", meter.name, error)


def _after_fork() -> None:
    for sampler in list(_LIVING):
        sampler._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
