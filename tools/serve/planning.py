"""Which of the waiting requests run next, and what their call may take: a pure function.

The call's latency budget is made of the queue's age, and the engine's governor runs the most
accurate configuration that fits it. So a long or an old queue costs accuracy, not latency.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.tools.serve.requests import Request, Sizes

    Floats = NDArray[np.float64]

LEAST_MS = 1e-3
"""What a call is granted whose time is over: nothing fits it, so the fastest runs."""
MOST_PLANNED = 256
"""So many of the most urgent requests are looked at."""

PredictMs = Callable[["Sizes", int], Sequence[float]]
"""What each configuration takes for so many rows of some sizes."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a plan depends on, besides the requests.

    Attributes:
        now_ms: The time, on the clock of the requests' deadlines.
        most_rows: How many rows a call may have.
        predict_ms: What configurations take.
        limit_ms: What requests that are yet to come will be granted; None for no limit.
        meanwhile_rows: How many rows come while a call runs, on average.
        seldom: An average of ``meanwhile_rows`` that may be neglected.
    """

    now_ms: float
    most_rows: int
    predict_ms: PredictMs
    limit_ms: float | None = None
    meanwhile_rows: float = 0.0
    seldom: float = 0.01


@dataclass(frozen=True, slots=True)
class Plan:
    """The next call: whose, and what it may take in ms; None for no limit."""

    taken: tuple[Request, ...]
    granted_ms: float | None


def parted_by_time(
    requests: Sequence[Request], load: Load
) -> tuple[list[Request], list[Request]]:
    """Returns those that can be in time, and those that even the fastest would answer late."""
    alone_ms: dict[tuple[Sizes, int], float] = {}
    in_time: list[Request] = []
    late: list[Request] = []
    for each in requests:
        key = each.sizes, each.rows
        takes_ms = alone_ms.get(key)
        if takes_ms is None:
            takes_ms = alone_ms[key] = min(load.predict_ms(*key))
        (in_time if each.deadline_ms - load.now_ms >= takes_ms else late).append(each)
    return in_time, late


def plan(requests: Sequence[Request], load: Load) -> Plan:
    """Returns the next call for ``requests``, at least one, the most urgent first.

    All can be in time (``parted_by_time``). The most urgent runs, with those that can be
    joined to it. The call is granted so much that, if all further calls took as long as this
    one, everybody who waits would be answered in time; and that whoever comes meanwhile could
    be, by the fastest configuration. Of all numbers of requests the one is taken with which
    the most configurations fit; of several such the one that gets most done.
    """
    first = requests[0]
    kept_ms = _kept_ms(first.sizes, load)
    if len(requests) == 1:
        granted_ms = first.deadline_ms - load.now_ms
        if kept_ms < granted_ms:
            granted_ms = max(kept_ms, min(load.predict_ms(first.sizes, first.rows)))
        return Plan((first,), granted_ms if math.isfinite(granted_ms) else None)
    queue = _Queue.of(requests, load)
    best: tuple[tuple[int, float], float, int] | None = None
    for count in _counts(queue.rows[queue.alike], load.most_rows):
        rows = int(queue.rows[queue.alike[:count]].sum())
        predicted_ms = load.predict_ms(first.sizes, rows)
        granted_ms = _granted_ms(queue, count, rows, min(predicted_ms), kept_ms)
        fitting = sum(ms <= granted_ms for ms in predicted_ms)
        score = fitting, rows / min(predicted_ms)
        if best is None or score >= best[0]:
            best = score, granted_ms, count
    assert best is not None
    taken = tuple(requests[index] for index in queue.alike[: best[2]])
    return Plan(taken, max(best[1], LEAST_MS) if math.isfinite(best[1]) else None)


def plan_late(requests: Sequence[Request], load: Load) -> Plan:
    """Returns the next call for requests that will be late, at least one: as many as fit."""
    first = requests[0]
    alike = [each for each in requests[:MOST_PLANNED] if each.sizes == first.sizes]
    rows = np.array([each.rows for each in alike], np.float64)
    taken = tuple(alike[: _counts(rows, load.most_rows)[-1]])
    left_ms = min(each.deadline_ms for each in taken) - load.now_ms
    return Plan(taken, max(left_ms, LEAST_MS))


@dataclass(frozen=True, slots=True)
class _Queue:
    """Requests, the most urgent first; ``alike`` are the numbers of those of its sizes."""

    left_ms: Floats
    rows: Floats
    alone_ms: Floats
    alike: NDArray[np.intp]

    @classmethod
    def of(cls, requests: Sequence[Request], load: Load) -> _Queue:
        seen, first = requests[:MOST_PLANNED], requests[0]
        alike = [index for index, each in enumerate(seen) if each.sizes == first.sizes]
        alone_ms = np.zeros(len(seen))
        if len(alike) < len(seen):
            alone_ms[:] = [min(load.predict_ms(each.sizes, each.rows)) for each in seen]
        return cls(
            np.array([each.deadline_ms for each in seen]) - load.now_ms,
            np.array([each.rows for each in seen], np.float64),
            alone_ms,
            np.array(alike),
        )


def _counts(rows: Floats, most_rows: int) -> list[int]:
    """Returns the numbers of requests to choose from: powers of two, and as many as fit."""
    most = max(int(np.searchsorted(np.cumsum(rows), most_rows, side="right")), 1)
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def _kept_ms(sizes: Sizes, load: Load) -> float:
    """Returns in what time a request that comes now must be the next one to run."""
    if load.limit_ms is None or load.meanwhile_rows <= load.seldom:
        return math.inf
    coming = math.ceil(load.meanwhile_rows)
    joined = min(coming, load.most_rows)
    return load.limit_ms - min(load.predict_ms(sizes, joined)) * coming / joined


def _granted_ms(
    queue: _Queue, count: int, rows: int, fastest_ms: float, kept_ms: float
) -> float:
    """Returns what a call of the first ``count`` that are alike may take, maybe infinite."""
    taken = queue.alike[:count]
    granted_ms, calls = float(queue.left_ms[taken[0]]), 1.0
    if count < len(queue.left_ms):
        # The work of each that waits on, in calls like this one.
        work = queue.alone_ms / fastest_ms
        work[queue.alike] = queue.rows[queue.alike] / rows
        work[taken] = 0.0
        turns = 1 + np.ceil(np.cumsum(work) - 1e-9)
        turns[taken] = 1.0
        granted_ms = min(granted_ms, float((queue.left_ms / turns).min()))
        calls = float(turns.max())
    return min(granted_ms, max(kept_ms / calls, fastest_ms))
