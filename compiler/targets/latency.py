"""The latency table: a short measurement that all graphs share fairly."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.runtime.bundle.engines import Latency

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from skipc.runtime.backends import Backend, Engine

    Case = Mapping[str, NDArray[Any]]

_MAX_PASSES = 3
_MIN_CALLS = 2
_MAX_CALLS = 70
_ENOUGH_S = 0.8
_LONG_S = 2.0


def measure_latencies(
    backend: Backend, graphs: tuple[str, ...], inputs: Case
) -> dict[str, Latency]:
    """Returns every engine's latency with the threads of ``backend``, by the graphs' names.

    The engines take turns in up to three passes, so that a change of the clock rate
    meets all of them. One engine is loaded at a time: memory does not grow with their number.
    It takes about 0.8 s, or one pass of two calls each where that is longer.

    Raises:
        EngineError: An engine cannot be loaded or run.
    """
    table = {}
    for name, found in _passes(backend, graphs, inputs).items():
        p50, p95, p99 = (float(p) for p in np.percentile(found, (50, 95, 99)))
        table[name] = Latency(backend.threads, p50, p95, p99, len(found))
    return table


def _passes(backend: Backend, graphs: tuple[str, ...], inputs: Case) -> dict[str, list[float]]:
    times_ms: dict[str, list[float]] = {name: [] for name in graphs}
    turn_s = _ENOUGH_S / (_MAX_PASSES * len(graphs))
    end_s = time.monotonic() + _LONG_S
    for _ in range(_MAX_PASSES):
        for name in graphs:
            engine = backend.load(name)
            engine.run(inputs)  # the first call maps the weights and sizes the arena
            times_ms[name] += _turn(engine, inputs, turn_s)
            engine.close()
        if time.monotonic() >= end_s:
            break
    return times_ms


def _turn(engine: Engine, inputs: Case, turn_s: float) -> list[float]:
    found_ms: list[float] = []
    while len(found_ms) < _MAX_CALLS:
        start_ns = time.perf_counter_ns()
        engine.run(inputs)
        found_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
        if len(found_ms) >= _MIN_CALLS and sum(found_ms) >= turn_s * 1e3:
            break
    return found_ms
