"""The loop that is timed: everything takes turns, warm-up first.

What drifts (clock, heat, neighbours) drifts for all alike, and what a call leaves behind meets
all alike: ``turn_orders`` has the orders. Where three or more take turns every call follows
one of another; of two, every second call does. Memory is bounded: no more than ``MOST_ROUNDS``
are kept.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np

from skipc.runtime.bundle.constraints import AtLeast, Count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.runtime.backends import Arrays

    Run = Callable[[Arrays], Any]
    Clock = Callable[[], int]
    Times = Sequence[tuple[int, int]]  # when calls began and ended, by their beginnings

MOST_ROUNDS = 1_000_000
"""Warm-up ends after so many rounds, and so does what is measured; 16 bytes a call."""


@dataclass(frozen=True, slots=True)
class Stop:
    """When warm-up and measurement end.

    Rounds that begin before every configuration has run for ``warm_up_ms`` are dropped; then
    each has ``iterations`` calls, which take ``duration_s`` together, at least.
    """

    warm_up_ms: Annotated[float, AtLeast(0)]
    duration_s: Annotated[float, AtLeast(0)]
    iterations: Count


@dataclass(frozen=True, slots=True)
class Calls:
    """The measured calls of one configuration, in the order of time.

    Each began and ended so many nanoseconds after the first measured call of all began;
    ``streams`` of them, one after the other, were made at a time.
    """

    starts_ns: NDArray[np.int64]
    ends_ns: NDArray[np.int64]
    streams: int = 1

    @property
    def latencies_ms(self) -> NDArray[np.float64]:
        """What each took; a nanosecond where the clock did not move."""
        took_ms: NDArray[np.float64] = np.maximum(self.ends_ns - self.starts_ns, 1) / 1e6
        return took_ms

    @property
    def wall_ms(self) -> float:
        """What the turns took: each from its first call's start to its last one's end."""
        starts_ns = self.starts_ns.reshape(-1, self.streams).min(axis=1)
        ends_ns = self.ends_ns.reshape(-1, self.streams).max(axis=1)
        return float(np.maximum(ends_ns - starts_ns, 1).sum()) / 1e6


class Trace(NamedTuple):
    """The calls by name, each with a turn in every round, and the rounds that were dropped."""

    warm_up_rounds: int
    calls: Mapping[str, Calls]


def turn_orders(count: int) -> tuple[tuple[int, ...], ...]:
    """Returns the orders of the rounds of ``count``, to be gone through again and again.

    In them each goes first, second and so on equally often, and follows each other one
    equally often within a round. This is a Latin square balanced for what is carried over
    (E. J. Williams, Australian Journal of Scientific Research A 2, 1949): ``count`` rounds,
    twice that where ``count`` is odd and above 1.
    """
    first = [(step + 1) // 2 if step % 2 else -(step // 2) for step in range(count)]
    rows = [tuple((start + step) % count for step in first) for start in range(count)]
    if count % 2 == 0 or count == 1:
        return tuple(rows)
    # Backwards, and in this order nobody has two turns running from one round to the next.
    return (*rows, *(row[::-1] for row in (rows[0], *rows[:0:-1])))


class _Lane:
    """One of those that take turns: keeps when the calls of each turn began and ended."""

    def __init__(self, turn: Callable[[Arrays], Times]) -> None:
        self._turn = turn
        self.forget()

    def forget(self) -> None:
        """Drops what was kept: it was warm-up."""
        self.starts, self.ends, self.spent_ns = array("q"), array("q"), 0

    def turn(self, inputs: Arrays) -> None:
        times_ns = self._turn(inputs)
        for start_ns, end_ns in times_ns:
            self.starts.append(start_ns)
            self.ends.append(end_ns)
        # A clock that stands still must not make the loop endless.
        self.spent_ns += max(max(end_ns for _, end_ns in times_ns) - times_ns[0][0], 1)


def timed(
    runs: Mapping[str, Run],
    cases: Sequence[Arrays],
    stop: Stop,
    now_ns: Clock,
    streams: int = 1,
    expect: Callable[[float], None] = lambda seconds: None,
    most_rounds: int = MOST_ROUNDS,
) -> Trace:
    """Returns the calls of all, made alternating until ``stop`` says so.

    Args:
        runs: What is timed, by name; at least one.
        cases: Inputs; each round takes the next, the same for all.
        stop: When to end.
        now_ns: The clock.
        streams: Calls at the same time; above 1 a turn is so many, each on its own thread.
        expect: Told after warm-up how many seconds it will take, as far as can be told.
        most_rounds: Warm-up and measurement end after so many each in any case.
    """
    begin = threading.Barrier(streams)

    def call(run: Run, inputs: Arrays) -> tuple[int, int]:
        if streams > 1:
            begin.wait()  # until each thread has one
        start_ns = now_ns()
        run(inputs)
        return start_ns, now_ns()

    with ThreadPoolExecutor(streams) as threads:

        def turn(run: Run, inputs: Arrays) -> Times:
            if streams == 1:
                return (call(run, inputs),)
            calls = [threads.submit(call, run, inputs) for _ in range(streams)]
            return sorted(each.result() for each in calls)

        named = {name: _Lane(partial(turn, run)) for name, run in runs.items()}
        lanes, rounds, warm_up_rounds = [*named.values()], 0, 0
        turns = [[lanes[at].turn for at in row] for row in turn_orders(len(lanes))]
        warming = stop.warm_up_ms > 0
        while True:
            measured, least_ns = rounds - warm_up_rounds, min(lane.spent_ns for lane in lanes)
            if warming and (least_ns >= stop.warm_up_ms * 1e6 or measured >= most_rounds):
                all_ns = sum(lane.spent_ns for lane in lanes)  # more calls will be like these
                wanted = max(stop.iterations, stop.duration_s * 1e9 * rounds / least_ns)
                expect(min(wanted, most_rounds) * all_ns / rounds / 1e9)
                warming, warm_up_rounds, measured, least_ns = False, rounds, 0, 0
                for lane in lanes:
                    lane.forget()
            enough = measured >= stop.iterations and least_ns >= stop.duration_s * 1e9
            if not warming and (enough or measured >= most_rounds):
                break
            for take_turn in turns[rounds % len(turns)]:
                take_turn(cases[rounds % len(cases)])
            rounds += 1
    first_ns = min(lane.starts[0] for lane in lanes)
    calls = {}
    for name, lane in named.items():
        starts_ns, ends_ns = np.array([lane.starts, lane.ends], np.int64) - first_ns
        calls[name] = Calls(starts_ns, ends_ns, streams)
    return Trace(warm_up_rounds, calls)
