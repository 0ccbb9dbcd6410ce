"""The loop that is timed: configurations by turns, warm-up first.

What drifts (clock, heat, neighbours) drifts for all alike, and what a call leaves behind meets
all alike: ``turns`` has the orders. Where three or more take turns every call follows one of
another; of two, every second call does. Memory is bounded: no more than ``MOST_ROUNDS`` are
kept.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from skipc.tools.trtbench.running.turns import turn_orders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.runtime.backends import Arrays

MOST_ROUNDS = 1_000_000
"""Warm-up ends after so many rounds, and so does what is measured; 16 bytes a call."""


class Callee(Protocol):
    """What is timed: an engine, or what it is compared with."""

    def run(self, inputs: Arrays) -> object:
        """Makes a call."""
        ...


@dataclass(frozen=True, slots=True)
class Stop:
    """When warm-up and measurement end. All of it is per configuration.

    Attributes:
        warm_up_ms: Rounds that begin before every configuration has run for this long are
            dropped.
        duration_s: Each configuration's measured calls take this long together, at least.
        iterations: Each configuration has this many measured calls, at least; 1 or more.
        most_rounds: Rounds after which warm-up and measurement end in any case; no fewer
            than ``iterations``.
    """

    warm_up_ms: float
    duration_s: float
    iterations: int
    most_rounds: int = MOST_ROUNDS


@dataclass(frozen=True, slots=True)
class Calls:
    """The measured calls of one configuration, in the order of time.

    Attributes:
        starts_ns: When each began, in nanoseconds since the first measured call began.
        ends_ns: When it ended.
        streams: How many were made at a time; they lie one after the other.
    """

    starts_ns: NDArray[np.int64]
    ends_ns: NDArray[np.int64]
    streams: int = 1

    @property
    def latencies_ms(self) -> NDArray[np.float64]:
        """What each took; a nanosecond where the clock did not move."""
        took_ns = np.maximum(self.ends_ns - self.starts_ns, 1)
        took_ms: NDArray[np.float64] = took_ns / 1e6
        return took_ms

    @property
    def wall_ms(self) -> float:
        """What the turns took: each from its first call's start to its last one's end."""
        starts_ns = self.starts_ns.reshape(-1, self.streams).min(axis=1)
        ends_ns = self.ends_ns.reshape(-1, self.streams).max(axis=1)
        return float(np.maximum(ends_ns - starts_ns, 1).sum()) / 1e6


@dataclass(frozen=True, slots=True)
class Trace:
    """What the loop measured.

    Attributes:
        warm_up_rounds: Rounds dropped; a round is one call of each configuration.
        calls: By configuration; each has one call of every round.
    """

    warm_up_rounds: int
    calls: Mapping[str, Calls]


def interleave(
    engines: Mapping[str, Callee],
    cases: Sequence[Arrays],
    stop: Stop,
    now_ns: Callable[[], int],
    expect: Callable[[float], None] = lambda seconds: None,
) -> Trace:
    """Returns the calls of all configurations, made by turns until ``stop`` says so.

    Args:
        engines: By configuration, loaded; at least one.
        cases: Inputs; each round takes the next, the same for all configurations.
        stop: When to end.
        now_ns: The clock.
        expect: Told after warm-up how many seconds it will take, as far as can be told.

    Raises:
        BackendError: A call failed.
    """
    runs = [engine.run for engine in engines.values()]
    count = len(runs)
    orders = turn_orders(count)
    warm_up_ns, duration_ns = stop.warm_up_ms * 1e6, stop.duration_s * 1e9
    starts = [array("q") for _ in runs]
    ends = [array("q") for _ in runs]
    spent_ns = [0] * count
    warming = warm_up_ns > 0
    rounds = warm_up_rounds = 0
    while True:
        full = rounds - warm_up_rounds >= stop.most_rounds
        if warming and (full or min(spent_ns) >= warm_up_ns):
            warming = False
            warm_up_rounds = rounds
            expect(_expected_s(spent_ns, rounds, stop))
            starts = [array("q") for _ in runs]
            ends = [array("q") for _ in runs]
            spent_ns = [0] * count
        measured = rounds - warm_up_rounds
        enough = measured >= stop.iterations and min(spent_ns) >= duration_ns
        if not warming and (enough or measured >= stop.most_rounds):
            break
        case = cases[rounds % len(cases)]
        for index in orders[rounds % len(orders)]:
            run = runs[index]
            start_ns = now_ns()
            run(case)
            end_ns = now_ns()
            starts[index].append(start_ns)
            ends[index].append(end_ns)
            # A clock that stands still must not make the loop endless.
            spent_ns[index] += max(end_ns - start_ns, 1)
        rounds += 1
    first_ns = min(times[0] for times in starts)
    return Trace(
        warm_up_rounds,
        {
            name: Calls(_since(first_ns, starts[index]), _since(first_ns, ends[index]))
            for index, name in enumerate(engines)
        },
    )


def _expected_s(spent_ns: Sequence[int], rounds: int, stop: Stop) -> float:
    """Returns how long the measured calls will take if they are like those of the warm-up."""
    wanted = max(stop.iterations, stop.duration_s * 1e9 * rounds / min(spent_ns))
    return min(wanted, stop.most_rounds) * sum(spent_ns) / rounds / 1e9


def _since(first_ns: int, times_ns: array[int]) -> NDArray[np.int64]:
    return np.array(times_ns, np.int64) - first_ns
