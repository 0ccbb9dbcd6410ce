"""``trtbench --infStreams``: several callers at once."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.tools.trtbench.results.document import read_report
from skipc.tools.trtbench.running.loop import Calls, Stop
from skipc.tools.trtbench.running.streams import Callers, measured_calls
from tests.command_line import trtbench
from tests.tools.trtbench.test_baselines import told_late
from tests.tools.trtbench.test_trtbench_cli import QUICK, read_as_trtexec_writes

if TYPE_CHECKING:
    from pathlib import Path


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
    trace = measured_calls(callees, [{}], Stop(0, 0, 4), 3, time.perf_counter_ns)
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
    trace = measured_calls({"a": callee}, [{}], Stop(1, 0, 3), 2, time.perf_counter_ns)
    assert trace.warm_up_rounds >= 1
    assert len(trace.calls["a"].starts_ns) == 6
    assert trace.calls["a"].starts_ns[0] == 0


def test_one_stream_is_called_from_this_thread() -> None:
    callee = Meeting(1)
    calls = measured_calls({"a": callee}, [{}], Stop(0, 0, 2), 1, time.perf_counter_ns)
    assert callee.threads == {threading.get_ident()}
    assert calls.calls["a"].streams == 1


def test_what_turns_took_is_from_the_first_start_to_the_last_end() -> None:
    calls = Calls(np.array([0, 1, 10, 14]) * 10**6, np.array([5, 4, 13, 16]) * 10**6, 2)
    assert calls.wall_ms == 5 + 6
    assert calls.latencies_ms.tolist() == [5, 3, 3, 2]


def test_a_call_that_fails_is_told() -> None:
    def fail(inputs: object) -> None:
        raise ValueError("went wrong")

    with (
        closing(Callers(2, time.perf_counter_ns)) as callers,
        pytest.raises(ValueError, match="went wrong"),
    ):
        callers.together(fail, {})


def test_a_family_is_measured_by_two_callers(work: Path) -> None:
    ended = trtbench(
        *(work / "ckpt.skipc", *QUICK, "--infStreams=2", "--baseline=plain,if"),
        *("--json", work / "found.json", "--exportTimes", work / "times.json"),
    )
    assert ended.code == 0, ended.err
    assert "2 calls at a time, begun together" in ended.out
    assert "Warning: 2 calls run at the same time and share the cores" in ended.out
    found = json.loads((work / "found.json").read_text(encoding="utf-8"))
    assert found["regime"]["streams"] == 2
    for entry in found["configurations"]:
        latency = entry["latency"]
        assert latency["runs"] == 24
        assert latency["throughput_per_s"] == pytest.approx(24_000 / latency["total_ms"])
        times = read_as_trtexec_writes(work / f"times.{entry['name']}.json")
        turns_ms = [
            max(t["endD2hMs"] for t in turn) - min(t["startEnqMs"] for t in turn)
            for turn in zip(times[::2], times[1::2], strict=True)
        ]
        assert sum(turns_ms) == pytest.approx(latency["total_ms"])
    assert found["baselines"][0]["configurations"][0]["latency"]["runs"] == 24
    report = read_report(work / "found.json")
    assert report.regime.streams == 2
    assert trtbench(work / "ckpt.skipc", *QUICK, "--json", work / "one.json").code == 0
    compared = trtbench("--compare", work / "one.json", work / "found.json")
    assert "calls at a time: 1, then 2" in compared.out


MISTAKES = {
    "none": (("--infStreams=0",), "0 is not in the range"),
    "many": (("--infStreams=1000",), "1000 is not in the range"),
    "meter": (("--infStreams=2", "--meter=model:5"), "energy is measured of one call"),
    "loading": (("--infStreams=2", "--timeDeserialize"), "it ends after the first calls"),
    "update": (("--infStreams=2", "--update"), "what a call takes alone, not one of 2"),
    "null": (("--infStreams=2", "--target=null"), "the backend 'null' runs one call at"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(work: Path, case: str) -> None:
    words, expected = MISTAKES[case]
    assert expected in told_late(trtbench(work / "ckpt.skipc", *words))


def test_pytorch_has_one_caller(work: Path) -> None:
    words = ("--infStreams=2", "--baseline=plain,eager", "--checkpoint", work / "ckpt.pt")
    message = told_late(trtbench(work / "ckpt.skipc", *words))
    assert "not with --baseline eager: PyTorch's threads are set for one caller" in message
