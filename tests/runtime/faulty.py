"""Engines that fail, hang and compute nonsense when a test says so."""

from __future__ import annotations

from threading import Event

import numpy as np

from skipc.runtime import AdaptiveEngine, FakeClock, OperatingPoint, Reading, TensorSpec
from skipc.runtime.backends.null import NullBackend

PATIENCE_S = 30

POINTS = (
    OperatingPoint("full", 0.95, 8.0, 10.0, 10.0, energy_mj=80.0),
    OperatingPoint("mid", 0.93, 5.0, 6.0, 6.0, energy_mj=50.0),
    OperatingPoint("fast", 0.90, 2.0, 3.0, 3.0, energy_mj=20.0),
)
INPUTS = (TensorSpec("x", "float32", (1, 4)),)
X = np.ones((1, 4), np.float32)
TABLED_MS = {point.configuration: point.p50_ms for point in POINTS}
ENERGY_MJ = {point.configuration: point.energy_mj for point in POINTS}


class Script:
    """What each configuration does when it runs.

    Attributes:
        errors: By configuration, what it raises.
        outputs: By configuration, what it returns; else ``y``: the mean of the inputs.
        waits: By configuration, the event that it waits for, which ``entered`` announces.
        ran: The configurations that ran, in order.
    """

    def __init__(self, **errors):
        self.errors = errors
        self.outputs = {}
        self.waits = {}
        self.entered = Event()
        self.ran = []

    def __call__(self, name, inputs):
        self.ran.append(name)
        if name in self.waits:
            self.entered.set()
            assert self.waits[name].wait(PATIENCE_S)
        if name in self.errors:
            raise self.errors[name]
        return self.outputs.get(name) or {"y": inputs["x"].mean(axis=1)}


class CountingBackend(NullBackend):
    """A null backend that notes what was closed."""

    def __init__(self, latencies_ms=TABLED_MS, outputs=None, clock=None):
        super().__init__(latencies_ms, outputs or Script(), clock)
        self.closed = []

    def load(self, graph):
        engine = super().load(graph)
        engine.close = lambda: self.closed.append(graph)
        return engine

    def close(self):
        self.closed.append("backend")


class HandMeter:
    """A meter that a test moves."""

    name, covers, estimated = "hand", "the test", False
    resolution_mj, period_s = 0.01, 0.02

    def __init__(self, clock):
        self.clock = clock
        self.energy_mj = 0.0
        self.error = None
        self.closed = 0

    def read(self):
        if self.error is not None:
            raise self.error
        return Reading(self.energy_mj, self.clock.now_ns())

    def close(self):
        self.closed += 1


def scripted(script, latencies_ms=TABLED_MS, clock=None, points=POINTS, **options):
    """Returns an engine that does what ``script`` says, and its clock."""
    clock = FakeClock() if clock is None else clock
    moved = clock if isinstance(clock, FakeClock) else None
    options.setdefault("warm_up_runs", 0)
    backend = NullBackend(latencies_ms, script, moved)
    return AdaptiveEngine(points, INPUTS, backend, clock=clock, **options), clock


def texts(caplog):
    return [record.getMessage() for record in caplog.records]
