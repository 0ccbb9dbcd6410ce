"""What ``AdaptiveEngine`` itself costs per call: everything but the network."""

from __future__ import annotations

import statistics
import time

import numpy as np

from skipc.runtime import AdaptiveEngine, Budget
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.governor import OperatingPoint
from skipc.runtime.manifest import TensorSpec
from skipc.tools.bench.bars import Bar

_CALLS = 2000


def bar() -> Bar:
    """Times calls of six configurations on the null backend under a latency budget."""
    names = [f"skip{n}" for n in range(6)]
    points = [
        OperatingPoint(name, rank=-index, p50_ms=60.0 - 8 * index, p95_ms=62.0 - 8 * index)
        for index, name in enumerate(names)
    ]
    image = np.zeros((1, 3, 224, 224), np.float32)
    backend = NullBackend(
        dict.fromkeys(names, 1.0), {"logits": np.zeros((1, 1000), np.float32)}
    )
    inputs = (TensorSpec("images", "float32", (1, 3, 224, 224)),)
    per_call_us = []
    with AdaptiveEngine(points, inputs, backend, budget=Budget(latency_ms=40)) as engine:
        for _ in range(15):
            start_ns = time.perf_counter_ns()
            for _ in range(_CALLS):
                engine(image)
            per_call_us.append((time.perf_counter_ns() - start_ns) / _CALLS / 1000)
    return Bar(
        "null backend",
        "AdaptiveEngine per call",
        statistics.median(per_call_us),
        15.0,
        unit="µs",
    )
