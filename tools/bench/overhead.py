"""What ``AdaptiveEngine`` itself costs per call: everything but the network."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime import AdaptiveEngine, Budget
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.call.controller import Controller
from skipc.runtime.call.lifetime import InFlight
from skipc.runtime.call.orders import Orders
from skipc.runtime.governor import OperatingPoint, first_state
from skipc.tools.bench.harness import Bar, timed_ms

if TYPE_CHECKING:
    from skipc.tools.bench.harness import Call

_CALLS = 2000
_POINTS = tuple(
    OperatingPoint(
        f"skip{n}",
        rank=-n,
        p50_ms=60.0 - 8 * n,
        p95_ms=62.0 - 8 * n,
        energy_mj=600.0 - 80 * n,
    )
    for n in range(6)
)


def bars() -> list[Bar]:
    """Returns what a call costs besides the network, and what of it the governor takes."""
    latency, energy = Budget(latency_ms=40), Budget(energy_mj=410)
    return [
        _engine(),
        _governor("a latency budget", latency),
        _governor("an energy budget", energy),
    ]


def _engine() -> Bar:
    """Times calls of six configurations on the null backend under a latency budget."""
    image = np.zeros((1, 3, 224, 224), np.float32)
    logits = {"logits": np.zeros((1, 1000), np.float32)}
    backend = NullBackend({point.configuration: 1.0 for point in _POINTS}, logits)
    inputs = (TensorSpec("images", "float32", (1, 3, 224, 224)),)
    with AdaptiveEngine(_POINTS, inputs, backend, budget=Budget(latency_ms=40)) as engine:
        per_call_us = _per_call_us(lambda: engine(image))
    return Bar("null backend", "AdaptiveEngine per call", per_call_us, 15.0, unit="µs")


def _governor(name: str, budget: Budget) -> Bar:
    """Times the choice and what is learnt from a call, without calling anything."""
    named = {point.configuration: point for point in _POINTS}
    orders = Orders(named, "rank", True, budget)
    control = Controller(named, first_state(_POINTS), orders, InFlight())
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


def _per_call_us(call: Call) -> float:
    def calls() -> None:
        for _ in range(_CALLS):
            call()

    return 1000 / _CALLS * statistics.median(timed_ms(calls) for _ in range(15))
