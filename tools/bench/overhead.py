"""What ``AdaptiveEngine`` itself costs per call: everything but the network."""

from __future__ import annotations

import statistics
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime import AdaptiveEngine, Budget, FakeClock
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.call.controller import Controller
from skipc.runtime.call.lifetime import InFlight
from skipc.runtime.call.orders import Orders
from skipc.runtime.governor import OperatingPoint, first_state
from skipc.tools.bench.harness import Bar, by_turns_ms, ratio, timed_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skipc.tools.bench.harness import Call

_CALLS = 500
_NOISE = np.exp(np.random.default_rng(0).normal(0, 0.02, 997)).tolist()
_LATENCY, _ENERGY = Budget(latency_ms=40), Budget(energy_mj=410)


def _points(count: int) -> tuple[OperatingPoint, ...]:
    """Returns so many configurations, from 60 ms down to 12 ms."""
    steps = [48.0 * n / count for n in range(count)]
    return tuple(
        OperatingPoint(
            f"skip{n}",
            rank=-n,
            p50_ms=60.0 - step,
            p95_ms=62.0 - step,
            energy_mj=600.0 - 10 * step,
        )
        for n, step in enumerate(steps)
    )


_POINTS = _points(6)


def bars() -> list[Bar]:
    """Returns what a call costs besides the network, and what of it the governor takes."""
    return [
        _engine("a latency budget", _LATENCY, 5.0),
        _engine("an energy budget", _ENERGY, 8.0),
        _governor("a latency budget", _LATENCY),
        _governor("an energy budget", _ENERGY),
        _many(),
        _yardstick(),
    ]


def _engine(name: str, budget: Budget, limit_us: float) -> Bar:
    """Times calls of six configurations on the null backend."""
    what = f"AdaptiveEngine per call, {name}"
    with _opened(_POINTS, budget) as call:
        return Bar("null backend", what, _per_call_us(call), limit_us, unit="µs")


def _yardstick() -> Bar:
    """Times what no change of ours makes faster: microseconds are those of a machine."""
    what = "1,000 turns of an empty loop, to compare machines by"
    return Bar("null backend", what, _per_call_us(_turn), None, unit="µs")


def _turn() -> None:
    for _ in range(1000):
        pass


def _many() -> Bar:
    """Compares a thousand configurations with six, alternating."""
    with _opened(_points(1000), _LATENCY) as many, _opened(_POINTS, _LATENCY) as six:
        pairs = by_turns_ms(lambda: _several(many), lambda: _several(six), 20)
    return Bar("null backend", "… 1,000 configurations, over six", ratio(pairs), 2.0)


@contextmanager
def _opened(points: tuple[OperatingPoint, ...], budget: Budget) -> Iterator[Call]:
    """Yields a call of an engine on a clock that its calls move: they take what is tabled."""
    image = np.zeros((1, 3, 224, 224), np.float32)
    logits = {"logits": np.zeros((1, 1000), np.float32)}
    scripts = {point.configuration: _script(point.p50_ms) for point in points}
    clock = FakeClock()
    backend = NullBackend(scripts, logits, clock)
    inputs = (TensorSpec("images", "float32", (1, 3, 224, 224)),)
    with AdaptiveEngine(points, inputs, backend, budget=budget, clock=clock) as engine:
        call = partial(engine, image)
        _several(call)  # until the table is no longer all that is known
        yield call


def _script(p50_ms: float) -> Callable[[int], float]:
    return lambda call: p50_ms * float(_NOISE[call % len(_NOISE)])


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
    return Bar("null backend", what, _per_call_us(call), None, unit="µs")


def _per_call_us(call: Call) -> float:
    times_ms = [timed_ms(lambda: _several(call)) for _ in range(30)]
    return 1000 / _CALLS * statistics.median(times_ms)


def _several(call: Call) -> None:
    for _ in range(_CALLS):
        call()
