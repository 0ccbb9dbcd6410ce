from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from skipc.runtime import FakeClock
from skipc.runtime.backends.null import NullBackend
from skipc.tools.trtbench.loop import (
    Calls,
    Stop,
    timed,
    turn_orders,
)


@pytest.mark.parametrize("count", range(1, 12))
def test_each_follows_each_other_equally_often_and_has_every_place(count: int) -> None:
    rows = turn_orders(count)
    assert all(sorted(row) == list(range(count)) for row in rows)
    followers = Counter(pair for row in rows for pair in pairwise(row))
    assert len(followers) == count * (count - 1)
    assert len(set(followers.values())) <= 1
    places = Counter(pair for row in rows for pair in enumerate(row))
    assert len(places) == count**2
    assert len(set(places.values())) == 1


@pytest.mark.parametrize("count", range(3, 12))
def test_nobody_has_two_turns_running(count: int) -> None:
    rows = turn_orders(count)
    assert all(row[-1] != after[0] for row, after in pairwise((*rows, rows[0])))


LATENCIES_MS = {"a": 4.0, "b": 2.0, "c": 1.0}


class Family:
    """Null engines of some configurations, and the order in which they were called."""

    def __init__(self, latencies_ms: dict[str, Any]) -> None:
        self.clock = FakeClock()
        self.order: list[str] = []
        self.cases: list[int] = []
        backend = NullBackend(latencies_ms, self._outputs, self.clock)
        self.runs = {name: backend.load(name).run for name in latencies_ms}

    def _outputs(self, configuration: str, inputs: Any) -> dict[str, Any]:
        self.order.append(configuration)
        self.cases.append(inputs.get("case", 0))
        return {}

    def trace(self, stop: Stop, cases: int = 1):
        inputs = [{"case": index} for index in range(cases)]
        return timed(self.runs, inputs, stop, self.clock.now_ns)


def test_configurations_take_turns_in_orders_that_are_balanced() -> None:
    family = Family(LATENCIES_MS)
    family.trace(Stop(0, 0, 4), cases=2)
    assert "".join(family.order) == "abcbcacabcba"
    assert family.cases == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]


def test_times_are_exact_and_begin_at_the_first_measured_call() -> None:
    calls = Family(LATENCIES_MS).trace(Stop(0, 0, 2)).calls
    assert calls["a"].starts_ns.tolist() == [0, 10_000_000]
    assert calls["b"].starts_ns.tolist() == [4_000_000, 7_000_000]
    assert calls["c"].ends_ns.tolist() == [7_000_000, 10_000_000]
    assert calls["b"].latencies_ms.tolist() == [2, 2]


def test_how_long_it_will_take_is_told_after_the_warm_up() -> None:
    family = Family(LATENCIES_MS)
    expected_s: list[float] = []
    stop = Stop(10, 0.1, 3)
    trace = timed(family.runs, [{}], stop, family.clock.now_ns, expect=expected_s.append)
    assert expected_s == [pytest.approx(0.7)]  # 100 rounds, since the fastest takes 1 ms
    last_ns = max(calls.ends_ns.max() for calls in trace.calls.values())
    assert last_ns / 1e9 == pytest.approx(0.7)


def test_calls_that_begin_within_warm_up_are_dropped() -> None:
    slow_first = {name: [ms + 5, ms + 5, ms] for name, ms in LATENCIES_MS.items()}
    family = Family(slow_first)
    trace = family.trace(Stop(12, 0, 3))
    assert trace.warm_up_rounds == 2
    assert {name: calls.latencies_ms.tolist() for name, calls in trace.calls.items()} == {
        name: [ms] * 3 for name, ms in LATENCIES_MS.items()
    }
    assert len(family.order) == 3 * 5
    assert trace.calls["a"].starts_ns.min() >= 0


@pytest.mark.parametrize(
    ("stop", "rounds"),
    [
        (Stop(0, 0, 1), 1),
        (Stop(0, 0, 7), 7),
        (Stop(0, 0.020, 7), 20),  # the fastest, 1 ms, needs 20 calls
        (Stop(0, 0.0201, 7), 21),
        (Stop(0, 0.005, 7), 7),
    ],
)
def test_it_stops_when_both_conditions_are_met(stop: Stop, rounds: int) -> None:
    calls = Family(LATENCIES_MS).trace(stop).calls
    assert {len(one.starts_ns) for one in calls.values()} == {rounds}


def test_warm_up_and_measurement_are_bounded_by_rounds() -> None:
    """As with the null target, whose calls may take nanoseconds of its clock."""
    family = Family(LATENCIES_MS)
    stop = Stop(1e6, 1e6, 2)
    trace = timed(family.runs, [{}], stop, family.clock.now_ns, most_rounds=5)
    assert trace.warm_up_rounds == 5
    assert {len(calls.starts_ns) for calls in trace.calls.values()} == {5}


def test_a_clock_that_stands_still_ends_all_the_same() -> None:
    calls = Family({"a": 0.0}).trace(Stop(1e-5, 1e-8, 2)).calls
    assert calls["a"].latencies_ms.tolist() == [1e-6] * 10


class Meeting:
    """A callee whose calls end only once ``count`` of them have begun."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.threads: set[int] = set()

    def run(self, inputs: object) -> None:
        self.threads.add(threading.get_ident())
        self.barrier.wait(timeout=30)


def test_calls_of_a_turn_run_at_the_same_time_on_threads_started_once() -> None:
    callees = {"a": Meeting(3), "b": Meeting(3)}
    runs = {name: callee.run for name, callee in callees.items()}
    trace = timed(runs, [{}], Stop(0, 0, 4), time.perf_counter_ns, 3)
    assert callees["a"].threads == callees["b"].threads
    assert len(callees["a"].threads) == 3
    for calls in trace.calls.values():
        assert len(calls.latencies_ms) == 12
        starts = calls.starts_ns.reshape(4, 3)
        ends = calls.ends_ns.reshape(4, 3)
        assert (starts.max(axis=1) <= ends.min(axis=1)).all()
        assert (np.diff(starts) >= 0).all()
    first = min(calls.starts_ns[0] for calls in trace.calls.values())
    assert first == 0
    alive = {thread.ident for thread in threading.enumerate()}
    assert not callees["a"].threads & alive


def test_warm_up_turns_are_dropped() -> None:
    callee = Meeting(2)
    trace = timed({"a": callee.run}, [{}], Stop(1, 0, 3), time.perf_counter_ns, 2)
    assert trace.warm_up_rounds >= 1
    assert len(trace.calls["a"].starts_ns) == 6
    assert trace.calls["a"].starts_ns[0] == 0


def test_one_stream_is_called_from_this_thread() -> None:
    callee = Meeting(1)
    calls = timed({"a": callee.run}, [{}], Stop(0, 0, 2), time.perf_counter_ns)
    assert callee.threads == {threading.get_ident()}
    assert calls.calls["a"].streams == 1


def test_what_turns_took_is_from_the_first_start_to_the_last_end() -> None:
    calls = Calls(np.array([0, 1, 10, 14]) * 10**6, np.array([5, 4, 13, 16]) * 10**6, 2)
    assert calls.wall_ms == 5 + 6
    assert calls.latencies_ms.tolist() == [5, 3, 3, 2]


def test_a_call_that_fails_is_told() -> None:
    def fail(inputs: object) -> None:
        raise ValueError("went wrong")

    for streams in (1, 2):
        with pytest.raises(ValueError, match="went wrong"):
            timed({"a": fail}, [{}], Stop(0, 0, 1), time.perf_counter_ns, streams)
