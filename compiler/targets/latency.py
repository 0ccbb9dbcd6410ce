"""The latency table: a short measurement that all graphs share fairly."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.runtime.bundle.engines import Latency

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.runtime.backends import Backend

    Case = Mapping[str, NDArray[Any]]

_MAX_PASSES = 3
_MIN_CALLS = 2
_MAX_CALLS = 70
_ENOUGH_S = 0.8
_LONG_S = 2.0


def measure_latencies(backend: Backend, inputs: Mapping[str, Case]) -> dict[str, Latency]:
    """Returns every engine's latency with the threads of ``backend``, by graph.

    ``inputs`` is what each graph runs on: of the golden input with the typical batch.

    The engines take turns in up to three passes, so that a change of the clock rate
    meets all of them. One engine is loaded at a time: memory does not grow with their number.
    It takes about 0.8 s, or one pass of two calls each where that is longer.

    Raises:
        EngineError: An engine cannot be loaded or run.
    """
    times_ms: dict[str, list[float]] = {name: [] for name in inputs}
    turn_s = _ENOUGH_S / (_MAX_PASSES * len(inputs))
    end_s = time.monotonic() + _LONG_S
    for _ in range(_MAX_PASSES):
        for name, case in inputs.items():
            engine = backend.load(name)
            engine.run(case)  # the first call maps the weights and sizes the arena
            run = functools.partial(engine.run, case)
            times_ms[name] += timed_ms([run], _MIN_CALLS, _MAX_CALLS, turn_s)[0]
            engine.close()
        if time.monotonic() >= end_s:
            break
    table = {}
    for name, found_ms in times_ms.items():
        p50, p95, p99 = (float(p) for p in np.percentile(found_ms, (50, 95, 99)))
        table[name] = Latency(backend.threads, p50, p95, p99, len(found_ms))
    return table


def timed_ms(
    calls: Sequence[Callable[[], object]], least: int, most: int, enough_s: float
) -> list[list[float]]:
    """Returns how long each of ``calls`` takes, in ms, every time that they take turns.

    That is at least ``least`` times, and at most ``most``; in between until ``enough_s``.
    """
    times_ms: list[list[float]] = [[] for _ in calls]
    end_s = time.monotonic() + enough_s
    for turn in range(most):
        if turn >= least and time.monotonic() >= end_s:
            break
        for call, found_ms in zip(calls, times_ms, strict=True):
            start_ns = time.perf_counter_ns()
            call()
            found_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return times_ms
