"""What a stage of a route costs besides its graph: its feed, its test, and handing over."""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import numpy as np

from skipc.runtime import AdaptiveEngine, OperatingPoint, TensorSpec
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.route import Stage, Test
from skipc.runtime.load.opening import Family

_STAGES = 5
_GO_ON = 2.0


class _Ends(NamedTuple):
    """A graph's ends."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def hand_over_ms(classes: int, calls: int = 50, rounds: int = 9) -> float:
    """Returns what a stage takes here besides its graph, of a test of so many classes.

    A route whose graphs take no time is run, alternating with one graph alone: ``calls`` each,
    the median of ``rounds``.
    """
    logits = TensorSpec("logits", "float32", (1, classes))
    images = TensorSpec("images", "float32", (1, 3, 8, 8))
    hidden = TensorSpec("hidden", "float32", (1, 8, 8, 8))
    answer = {spec.name: np.zeros(spec.shape_at({}), np.float32) for spec in (logits, hidden)}
    names = [f"stage{at}" for at in range(_STAGES)]
    test = Test("logits", {"max-softmax": 1.0}, threshold=_GO_ON)
    route = [
        Stage(
            name,
            {"hidden": f"{at - 1}.hidden"} if at else {},
            test=test if at < _STAGES - 1 else None,
        )
        for at, name in enumerate(names)
    ]
    one = (Stage("one", answers={"logits": "logits"}),)
    graphs = {
        name: _Ends((hidden if at else images,), (logits, hidden))
        for at, name in enumerate(names)
    }
    family = Family({"one": one, "several": route}, (logits,), graphs)
    upto_ms = tuple(1.0 + at for at in range(_STAGES))
    points = (
        OperatingPoint("one", 0.0, 1.0, 1.0),
        OperatingPoint("several", 0.0, 1.0, 1.0, upto_ms=upto_ms),
    )
    backend = NullBackend(dict.fromkeys(("one", *names), 0.0), lambda *_: answer)
    image = np.zeros(images.shape_at({}), np.float32)
    with AdaptiveEngine(points, (images,), backend, family=family) as engine:

        def took_ms(name: str) -> float:
            engine.pin(name)
            begun_ns = time.perf_counter_ns()
            for _ in range(calls):
                engine(image)
            return (time.perf_counter_ns() - begun_ns) / 1e6

        more_ms = [took_ms("several") - took_ms("one") for _ in range(rounds)]
    return max(statistics.median(more_ms) / calls / (_STAGES - 1), 0.0)
