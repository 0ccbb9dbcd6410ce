"""Runs waiting requests on an engine, in calls that are planned by the queue's age."""

from __future__ import annotations

import logging
import math
from bisect import insort
from dataclasses import dataclass
from operator import attrgetter
from threading import Condition, Thread
from typing import TYPE_CHECKING, final

from skipc.runtime.clock import SystemClock
from skipc.runtime.errors import SkipcError
from skipc.tools.serve.errors import RequestError
from skipc.tools.serve.planning import (
    MOST_PLANNED,
    Load,
    Plan,
    parted_by_time,
    plan,
    plan_late,
)
from skipc.tools.serve.requests import Answered, Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from skipc.runtime import AdaptiveEngine
    from skipc.runtime.clock import Clock
    from skipc.tools.serve.metrics import Metrics
    from skipc.tools.serve.requests import Arrays, Joining, Sizes

_LOG = logging.getLogger(__name__)

MOST_WAITING = 1024
"""Requests beyond it are refused, those whose time is over first."""
_GAIN = 0.1
_CLOSING = "the server is shutting down. Ask another one, or try again."


@dataclass(frozen=True, slots=True)
class Limits:
    """What requests are granted, and may wait for.

    Attributes:
        latency_ms: From a request's arrival to its answer, where it does not say itself; None
            for no limit.
        wait_ms: How long a call that could take more requests waits for them.
        seldom: The share of the requests that may be late.
    """

    latency_ms: float | None = None
    wait_ms: float = 0.0
    seldom: float = 0.01


NO_LIMITS = Limits()


@final
class Batcher:
    """A queue before an engine, which nobody else calls.

    ``start`` runs it in a thread of its own; without that, ``run_next`` does by hand.

    Args:
        engine: What runs the requests. It stays the caller's.
        joining: How they become one call.
        limits: What they are granted.
        metrics: Told of requests and calls.
        check_unchanged: Raises ``RequestError`` where the engine's files are no longer those
            that it was opened with; called before anybody is answered.
        clock: The engine's clock.
    """

    def __init__(
        self,
        engine: AdaptiveEngine,
        joining: Joining,
        limits: Limits,
        metrics: Metrics,
        check_unchanged: Callable[[], None],
        clock: Clock | None = None,
    ) -> None:
        self._engine, self._joining, self._limits = engine, joining, limits
        self._metrics, self._check_unchanged = metrics, check_unchanged
        self._now_ns = (SystemClock() if clock is None else clock).now_ns
        self._waiting: list[Request] = []
        self._late: list[Request] = []
        self._changed, self._closed = Condition(), False
        self._meanwhile_rows, self._came_rows = 0.0, 0
        self._ran = 0.0, 0.0
        self._thread: Thread | None = None

    @property
    def now_ms(self) -> float:
        """The time on the batcher's clock."""
        return self._now_ns() / 1e6

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting) + len(self._late)

    def start(self) -> None:
        """Runs requests from now on, in a thread."""
        self._thread = Thread(target=self._run, name="skipc-batcher", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def submit(
        self, arrays: Arrays, latency_ms: float | None = None, arrived_ms: float | None = None
    ) -> Future[Answered]:
        """Returns what will hold a request's answer; cancelling it takes the request back.

        Args:
            arrays: Its inputs, such as the engine takes.
            latency_ms: What it is granted, instead of what all are.
            arrived_ms: When it came, on the batcher's clock; None for now.

        Raises:
            RequestError: Too many wait, or the server is shutting down.
        """
        limit_ms = self._limits.latency_ms if latency_ms is None else latency_ms
        arrived_ms = self.now_ms if arrived_ms is None else arrived_ms
        request = self._joining.request(arrays, arrived_ms, limit_ms)
        with self._changed:
            if self._closed:
                raise RequestError(_CLOSING, 503)
            late = self._make_room()
            insort(self._waiting, request, key=attrgetter("deadline_ms"))
            if self._ran[0] < arrived_ms <= self._ran[1]:
                self._came_rows += request.rows
            self._changed.notify()
        if late is not None and late.future.set_running_or_notify_cancel():
            late.future.set_exception(_too_many(MOST_WAITING))
        return request.future

    def close(self) -> None:
        """Answers all that wait, then ends; nothing can be submitted any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def run_next(self) -> int:
        """Runs one call; returns how many requests it answered, 0 where none did."""
        begun_ms = self.now_ms
        with self._changed:
            waiting, late = self._waiting, self._late
            self._meanwhile_rows += _GAIN * (self._came_rows - self._meanwhile_rows)
            self._came_rows = 0
            self._ran = begun_ms, math.inf
        load = Load(
            begun_ms,
            self._joining.most_rows,
            self._predict_ms,
            self._limits.latency_ms,
            self._meanwhile_rows,
            self._limits.seldom,
        )
        in_time, too_late = parted_by_time(waiting[:MOST_PLANNED], load)
        if in_time:
            chosen = plan(in_time, load)
        elif late or too_late:
            chosen = plan_late([*late, *too_late], load)
        else:
            return 0
        gone = {*chosen.taken, *too_late}
        with self._changed:
            self._waiting = [each for each in self._waiting if each not in gone]
            self._late = [r for r in (*self._late, *too_late) if r not in chosen.taken]
        taken = [r for r in chosen.taken if r.future.set_running_or_notify_cancel()]
        if taken:
            self._answer(taken, chosen)
        self._ran = begun_ms, self.now_ms
        return len(taken)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not len(self) and not self._closed:
                    self._changed.wait()
                if not len(self):
                    return
                if not self._late:
                    self._wait_for_more()
            try:
                self.run_next()
            except Exception as failure:  # of the plan: nobody's turn would ever come
                _LOG.exception("no call can be made of what waits.")
                self._fail_all(failure)

    def _wait_for_more(self) -> None:
        """Waits, with the lock, while a call could take more and may be waited for."""
        first_ms = min(each.arrived_ms for each in self._waiting)
        while (
            not self._closed and sum(r.rows for r in self._waiting) < self._joining.most_rows
        ):
            left_ms = first_ms + self._limits.wait_ms - self.now_ms
            if left_ms <= 0:
                return
            self._changed.wait(left_ms / 1000)

    def _fail_all(self, failure: Exception) -> None:
        with self._changed:
            waiting = (*self._waiting, *self._late)
            self._waiting, self._late = [], []
        for each in waiting:
            if each.future.set_running_or_notify_cancel():
                each.future.set_exception(failure)

    def _make_room(self) -> Request | None:
        """Takes from a full queue the request that is late for the longest; returns it.

        Raises ``RequestError`` where there is none: then the new one cannot stay.
        """
        if len(self) < MOST_WAITING:
            return None
        if not self._late:
            raise _too_many(len(self))
        return self._late.pop(0)

    def _predict_ms(self, sizes: Sizes, rows: int) -> list[float]:
        predicted_ms = self._engine.predict_ms(self._joining.sizes(sizes, rows))
        return list(predicted_ms.values())

    def _answer(self, taken: list[Request], chosen: Plan) -> None:
        """Answers requests, by one call; where that fails, each by a call of its own."""
        try:
            parts = self._call(taken, chosen.granted_ms)
        except SkipcError as failure:
            if len(taken) == 1 or isinstance(failure, RequestError):
                for each in taken:
                    each.future.set_exception(failure)
                return
            for each in taken:
                self._answer([each], chosen)
            return
        except Exception as failure:
            _LOG.exception("a call failed, and the next ones run all the same.")
            for each in taken:
                each.future.set_exception(failure)
            return
        for each, answered in zip(taken, parts, strict=True):
            each.future.set_result(answered)

    def _call(self, taken: list[Request], granted_ms: float | None) -> list[Answered]:
        outputs = self._engine(self._joining.joined(taken), deadline_ms=granted_ms)
        self._check_unchanged()
        record, ended_ms = self._engine.last, self.now_ms
        assert record is not None
        name, rows = record.configuration, sum(each.rows for each in taken)
        self._metrics.called(name, rows)
        return [
            Answered(
                part,
                name,
                rows,
                ended_ms - each.arrived_ms,
                ended_ms <= each.deadline_ms or math.isinf(each.deadline_ms),
            )
            for part, each in zip(self._joining.parted(outputs, taken), taken, strict=True)
        ]


def _too_many(waiting: int) -> RequestError:
    return RequestError(
        f"{waiting} requests wait already, more than this server keeps. Try again later,"
        " or start more replicas.",
        503,
    )
