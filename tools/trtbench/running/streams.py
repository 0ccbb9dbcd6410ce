"""``--infStreams``: several callers at once on each engine.

A turn of a configuration is then one call of each caller, begun together. The threads are
started once, before anything is timed.
"""

from __future__ import annotations

import threading
from array import array
from contextlib import closing
from typing import TYPE_CHECKING

import click
import numpy as np

from skipc.runtime.errors import ChoiceError
from skipc.tools.trtbench.baselines.registry import OF_PYTORCH
from skipc.tools.trtbench.running.loop import Callee, Calls, Trace, interleave

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skipc.runtime.backends import Arrays
    from skipc.tools.trtbench.running.loop import Stop
    from skipc.tools.trtbench.wanted import Wanted

_IN_PARALLEL: tuple[str, ...] = ("onnxruntime-cpu",)
"""Backends whose engines run several calls at the same time."""


def measured_calls(
    callees: Mapping[str, Callee],
    cases: Sequence[Arrays],
    stop: Stop,
    streams: int,
    now_ns: Callable[[], int],
    expect: Callable[[float], None] = lambda seconds: None,
) -> Trace:
    """Returns the calls that ``interleave`` makes, ``streams`` of them in each turn.

    Args:
        callees: What is timed, by name; may be called from several threads.
        cases: Inputs; each round takes the next.
        stop: When to end. A turn counts as one iteration, and lasts from the first call's
            start to the last one's end.
        streams: Callers at the same time; 1 or more.
        now_ns: The clock.
        expect: Told after warm-up how many seconds it will take.

    Raises:
        BackendError: A call failed.
    """
    if streams == 1:
        return interleave(callees, cases, stop, now_ns, expect)
    with closing(Callers(streams, now_ns)) as callers:
        turns = {name: _Turns(callee, callers) for name, callee in callees.items()}
        trace = interleave(turns, cases, stop, now_ns, expect)
    first_ns = min(turn.first_ns(trace.warm_up_rounds) for turn in turns.values())
    return Trace(
        trace.warm_up_rounds,
        {name: turn.calls(trace.warm_up_rounds, first_ns) for name, turn in turns.items()},
    )


def check_streams(wanted: Wanted, backend: str) -> None:
    """Raises unless several callers at once mean something here.

    Raises:
        click.UsageError: Something else that was asked for is of one call at a time.
        ChoiceError: The backend runs one call at a time.
    """
    streams = wanted.streams
    if streams == 1:
        return
    of_pytorch = [name for name in wanted.baselines.names if name in OF_PYTORCH]
    others = (
        ("--timeDeserialize", wanted.loading_only, "it ends after the first calls"),
        ("--meter", wanted.meter is not None, "energy is measured of one call at a time"),
        (
            f"--baseline {','.join(of_pytorch)}",
            bool(of_pytorch),
            "PyTorch's threads are set for one caller",
        ),
    )
    for option, given, reason in others:
        if given:
            raise click.UsageError(
                f"--infStreams {streams}: not with {option}: {reason}. Leave one of them out."
            )
    if backend not in _IN_PARALLEL:
        raise ChoiceError(
            f"--infStreams {streams}: the backend {backend!r} runs one call at a time, so"
            " callers would only wait for each other. Several can be had for"
            f" {' and '.join(map(repr, _IN_PARALLEL))}; use 1, or leave it out."
        )


class Callers:
    """Threads that make one call each, together; started now.

    Args:
        count: How many, at least 1.
        now_ns: The clock.
    """

    def __init__(self, count: int, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._begin = threading.Barrier(count + 1)
        self._end = threading.Barrier(count + 1)
        self._task: tuple[Callable[[Arrays], object], Arrays] | None = None
        self._times_ns = [(0, 0)] * count
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def together(
        self, run: Callable[[Arrays], object], inputs: Arrays
    ) -> list[tuple[int, int]]:
        """Returns when each call of ``run`` began and ended, in the order of their beginnings.

        Raises:
            Exception: What the first call to fail raised.
        """
        self._task = run, inputs
        self._begin.wait()
        self._end.wait()
        if self._failures:
            raise self._failures[0]
        return sorted(self._times_ns)

    def close(self) -> None:
        """Ends the threads."""
        self._begin.abort()
        self._end.abort()
        for thread in self._threads:
            thread.join()

    def _serve(self, number: int) -> None:
        try:
            while True:
                self._begin.wait()
                try:
                    self._call(number)
                except BaseException as failure:  # told to the one who asked
                    self._failures.append(failure)
                self._end.wait()
        except threading.BrokenBarrierError:
            return

    def _call(self, number: int) -> None:
        assert self._task is not None
        run, inputs = self._task
        start_ns = self._now_ns()
        run(inputs)
        self._times_ns[number] = start_ns, self._now_ns()


class _Turns:
    """What is timed, as seen by the loop: a call is a turn; satisfies ``Callee``."""

    def __init__(self, callee: Callee, callers: Callers) -> None:
        self._callee = callee
        self._callers = callers
        self._streams = 0
        self._starts = array("q")
        self._ends = array("q")

    def run(self, inputs: Arrays) -> None:
        """Makes the turn's calls."""
        times_ns = self._callers.together(self._callee.run, inputs)
        self._streams = len(times_ns)
        self._starts.extend(start for start, _ in times_ns)
        self._ends.extend(end for _, end in times_ns)

    def first_ns(self, dropped: int) -> int:
        """Returns when the first call began, after ``dropped`` turns."""
        return self._starts[dropped * self._streams]

    def calls(self, dropped: int, first_ns: int) -> Calls:
        """Returns the calls after ``dropped`` turns, in time since ``first_ns``."""
        kept = slice(dropped * self._streams, None)
        return Calls(
            np.array(self._starts[kept], np.int64) - first_ns,
            np.array(self._ends[kept], np.int64) - first_ns,
            self._streams,
        )
