"""Engines whose calls take scripted time, by how many rows they have, on a fake clock."""

from __future__ import annotations

import random

import numpy as np

from skipc.runtime import (
    AdaptiveEngine,
    Budget,
    Dimension,
    EngineError,
    FakeClock,
    OperatingPoint,
    TensorSpec,
)
from skipc.runtime.backends import Sharing
from skipc.runtime.governor.operating_point import SizeFactor
from skipc.tools.serve.batcher import Batcher, Limits
from skipc.tools.serve.metrics import Metrics
from skipc.tools.serve.requests import Joining

ACCURACIES = {"full": 0.95, "mid": 0.94, "fast": 0.90}
TAKES_MS = {"full": 9.0, "mid": 4.0, "fast": 2.5}
POISON = 13.0
MOST_ROWS = 8


def cost(rows):
    """What a call of so many rows takes, over one of a single row."""
    return 0.5 + 0.5 * rows


class RowsBackend:
    """Doubles its inputs, fails on ``POISON``, and takes the time that ``cost`` says."""

    name, threads = "rows", 1

    def __init__(self, clock):
        self._clock, self._random = clock, random.Random(1)
        self.calls = []

    def load(self, graph):
        return _Engine(self, graph)

    def run(self, graph, x):
        noise = self._random.lognormvariate(0, 0.02)
        self._clock.advance_ms(TAKES_MS[graph] * cost(len(x)) * noise)
        self.calls.append((graph, len(x)))
        if (x == POISON).any():
            raise EngineError("poison.")
        return {"y": 2 * x}

    def sharing(self):
        return Sharing(weights="none", arena="none", threads="the caller's")

    def close(self):
        pass


class _Engine:
    def __init__(self, backend, graph):
        self._backend, self._graph = backend, graph

    def run(self, inputs):
        return self._backend.run(self._graph, inputs["x"])

    def close(self):
        pass


def batcher(limit_ms=None, most_rows=MOST_ROWS, check=lambda: None, wait_ms=0.0, real=False):
    """Returns (batcher, engine, backend, clock); ``real`` reads the system's clock."""
    clock = FakeClock()
    free = most_rows > 1
    by_size = (SizeFactor((most_rows,), cost(most_rows)),) if free else ()
    points = [
        OperatingPoint(name, ACCURACIES[name], ms, 1.04 * ms, 1.06 * ms, by_size=by_size)
        for name, ms in TAKES_MS.items()
    ]
    size = "N" if free else 1
    inputs, outputs = (TensorSpec(name, "float32", (size, 2)) for name in "xy")
    dimensions = (Dimension("N", 1, 1, most_rows),) if free else ()
    backend = RowsBackend(clock)
    engine = AdaptiveEngine(
        *(points, (inputs,), backend),
        dimensions=dimensions,
        budget=Budget(latency_ms=limit_ms),
        clock=clock,
        ranked_by="accuracy",
        warm_up_runs=0,
    )
    joining = Joining((inputs,), (outputs,), dimensions)
    counted = Metrics(ACCURACIES, lambda: 0)
    limits = Limits(limit_ms, wait_ms)
    made = Batcher(engine, joining, limits, counted, check, None if real else clock)
    return made, engine, backend, clock


def rows_of(*values):
    """Returns inputs with a row for each value."""
    return {"x": np.array([[value, value] for value in values], np.float32)}
