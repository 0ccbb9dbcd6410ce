"""What ``AdaptiveEngine`` itself costs per call: everything but the network."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime import AdaptiveEngine, Budget
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.call.controller import Controller
from skipc.runtime.call.orders import Orders
from skipc.runtime.governor import OperatingPoint, first_state
from skipc.tools.bench.bars import Bar

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLS = 2000


def bars() -> list[Bar]:
    """Returns what a call costs besides the network, and what of it the governor takes."""
    found = [_engine()]
    budgets = {
        "a latency budget": Budget(latency_ms=40),
        "an energy budget": Budget(energy_mj=410),
    }
    for name, budget in budgets.items():
        found.append(_governor(name, budget))
    return found


def _points() -> tuple[OperatingPoint, ...]:
    return tuple(
        OperatingPoint(
            f"skip{n}",
            rank=-n,
            p50_ms=60.0 - 8 * n,
            p95_ms=62.0 - 8 * n,
            energy_mj=600.0 - 80 * n,
        )
        for n in range(6)
    )


def _engine() -> Bar:
    """Times calls of six configurations on the null backend under a latency budget."""
    points = _points()
    image = np.zeros((1, 3, 224, 224), np.float32)
    names = [point.configuration for point in points]
    backend = NullBackend(
        dict.fromkeys(names, 1.0), {"logits": np.zeros((1, 1000), np.float32)}
    )
    inputs = (TensorSpec("images", "float32", (1, 3, 224, 224)),)
    with AdaptiveEngine(points, inputs, backend, budget=Budget(latency_ms=40)) as engine:
        per_call_us = _per_call_us(lambda: engine(image))
    return Bar("null backend", "AdaptiveEngine per call", per_call_us, 15.0, unit="µs")


def _governor(name: str, budget: Budget) -> Bar:
    """Times the choice and what is learnt from a call, without calling anything."""
    points = _points()
    named = {point.configuration: point for point in points}
    control = Controller(named, first_state(points), Orders(named, "rank", True, budget))
    now_ns = 0

    def call() -> None:
        nonlocal now_ns
        begun = control.begin(now_ns)
        latency_ms = named[begun.configuration].p50_ms
        now_ns += round(latency_ms * 1e6)
        control.end(begun, now_ns, latency_ms)
        now_ns += 1_000_000

    what = f"decide() and bookkeeping per call, {name}"
    return Bar("null backend", what, _per_call_us(call), 10.0, unit="µs")


def _per_call_us(call: Callable[[], object]) -> float:
    found = []
    for _ in range(15):
        start_ns = time.perf_counter_ns()
        for _ in range(_CALLS):
            call()
        found.append((time.perf_counter_ns() - start_ns) / _CALLS / 1000)
    return statistics.median(found)
