"""The latency table: a short measurement that all graphs share fairly."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.runtime.bundle.engines import Latency, SizedLatency
from skipc.runtime.bundle.tensors import corner_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.runtime.backends import Backend
    from skipc.runtime.bundle.engines import EngineEntry
    from skipc.runtime.bundle.tensors import Dimension, Sizes

    Case = Mapping[str, NDArray[Any]]

_MAX_PASSES = 5
_MIN_CALLS = 2
_MAX_CALLS = 70
_ENOUGH_S = 0.8
_LONG_S = 2.0
_UNSTABLE = 2.0
_WORTH_SAYING_MS = 0.1
_LEAST_RUNS = 30
"""Of fewer calls a 99th percentile says nothing."""


def measure_latencies(backend: Backend, inputs: Mapping[str, Case]) -> dict[str, Latency]:
    """Returns every engine's latency with the threads of ``backend``, by graph.

    ``inputs`` is what each graph runs on: of the golden input with the typical sizes.

    The engines take turns in up to five passes, so that a change of the clock rate
    meets all of them; a quantile is the median of those of the passes, so that what disturbs
    one or two of them does not count. One engine is loaded at a time: memory does not grow
    with their number. It takes about 0.8 s, or one pass of two calls each where that is
    longer.

    Raises:
        EngineError: An engine cannot be loaded or run.
    """
    passes_ms: dict[str, list[list[float]]] = {name: [] for name in inputs}
    turn_s = _ENOUGH_S / (_MAX_PASSES * len(inputs))
    end_s = time.monotonic() + _LONG_S
    for _ in range(_MAX_PASSES):
        for name, case in inputs.items():
            engine = backend.load(name)
            engine.run(case)  # the first call maps the weights and sizes the arena
            run = functools.partial(engine.run, case)
            passes_ms[name] += timed_ms([run], _MIN_CALLS, _MAX_CALLS, turn_s)
            engine.close()
        if time.monotonic() >= end_s:
            break
    return {name: row_of(backend.threads, found_ms) for name, found_ms in passes_ms.items()}


def measured_sizes(dimensions: Iterable[Dimension]) -> list[Sizes]:
    """Returns the sizes to measure beside the typical ones.

    Those are the ends of each dimension's range, the others typical, and all ends together.
    """
    typical, smallest, largest = corner_sizes(dimensions)
    ends = [(name, end[name]) for end in (smallest, largest) for name in typical]
    found = [{**typical, name: size} for name, size in ends] + [smallest, largest]
    return [at for n, at in enumerate(found) if at != typical and at not in found[:n]]


def measure_by_size(
    backend: Backend,
    rows: Mapping[str, Latency],
    typical: Mapping[str, Case],
    others: Sequence[tuple[Sizes, Mapping[str, Case]]],
) -> dict[str, tuple[SizedLatency, ...]]:
    """Returns every engine's median latency at some sizes, by graph.

    Calls of all sizes take turns with those of the typical ones: what the machine does
    meanwhile meets all of them, and their ratio holds for the table.

    Args:
        backend: The backend.
        rows: What was measured at the typical sizes.
        typical: What each graph runs on at these.
        others: Other sizes, with what each graph runs on.

    Raises:
        EngineError: An engine cannot be loaded or run.
    """
    found: dict[str, tuple[SizedLatency, ...]] = {}
    turn_s = _ENOUGH_S / max(len(typical), 1)
    for name, case in typical.items() if others else ():
        engine = backend.load(name)
        cases = [case, *(reads[name] for _, reads in others)]
        for each in cases:
            engine.run(each)  # the first call of a size makes room for it
        calls = [functools.partial(engine.run, each) for each in cases]
        usual_ms, *times_ms = timed_ms(calls, _MIN_CALLS, _MAX_CALLS, turn_s)
        engine.close()
        scale = rows[name].p50_ms / float(np.median(usual_ms))
        found[name] = tuple(
            SizedLatency(backend.threads, sizes, scale * float(np.median(ms)), len(ms))
            for (sizes, _), ms in zip(others, times_ms, strict=True)
        )
    return found


def row_of(threads: int, passes_ms: Sequence[Sequence[float]]) -> Latency:
    """Returns the row of a table: the median of each quantile over the passes."""
    quantiles_ms = [np.percentile(found_ms, (50, 95, 99)) for found_ms in passes_ms]
    p50_ms, p95_ms, p99_ms = np.median(quantiles_ms, axis=0).tolist()
    return Latency(threads, p50_ms, p95_ms, p99_ms, sum(map(len, passes_ms)))


def unstable(engines: Iterable[EngineEntry]) -> dict[str, Latency]:
    """Returns the row of each graph whose slowest calls say more of the machine than of it."""
    return {
        entry.graph: row
        for entry in engines
        for row in entry.latency
        if row.runs >= _LEAST_RUNS
        and row.p99_ms > max(_UNSTABLE * row.p50_ms, row.p50_ms + _WORTH_SAYING_MS)
    }


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
