"""Calls of several sizes, each with a latency of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skipc.runtime import AdaptiveEngine, Budget, FakeClock, TensorSpec
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.tensors import Dimension
from skipc.runtime.call.controller import Controller
from skipc.runtime.call.lifetime import InFlight
from skipc.runtime.call.orders import Orders
from skipc.runtime.governor import first_state
from skipc.runtime.governor.operating_point import SizeFactor
from skipc.runtime.governor.sizes import CallSizes
from tests.runtime.governor.families import FAMILY, FULL


def in_batches(limit_ms, rows, factors, calls=800):
    """Returns what ran and what was late, by size; ``rows`` are the sizes in turn."""
    named = {point.configuration: point for point in FAMILY}
    orders = Orders(named, "accuracy", True, Budget(latency_ms=limit_ms))
    control = Controller(named, first_state(FAMILY), orders, InFlight(), sizes=CallSizes([1]))
    ran, late, now_ns = {size: [] for size in factors}, 0, 0
    random = np.random.default_rng(0)
    for call in range(calls):
        size = rows[call % len(rows)]
        begun = control.begin(now_ns, sizes=(size,))
        median_ms = named[begun.configuration].p50_ms
        latency_ms = factors[size] * median_ms * float(np.exp(random.normal(0, 0.03)))
        now_ns += round(latency_ms * 1e6)
        control.end(begun, now_ns, latency_ms)
        ran[size].append(begun.configuration)
        late += latency_ms > limit_ms
    return ran, late / calls


@pytest.mark.parametrize("factor", [8.0, 5.0])
@pytest.mark.parametrize("rows", [(1, 8), (8,) * 300 + (1,) * 300])
def test_each_size_runs_the_best_that_fits_it(factor, rows):
    ran, late = in_batches(18.0, rows, {1: 1.0, 8: factor})
    assert late <= 0.01
    assert set(ran[1][20:]) == {"full"}
    assert set(ran[8][20:]) == {"fast"}  # 2 ms times 5 or 8


def test_where_rows_cost_nothing_a_large_batch_runs_the_best_soon():
    ran, late = in_batches(18.0, (1, 8), {1: 1.0, 8: 1.2})
    assert ran[8][0] == "fast"  # as if each row cost the same
    assert set(ran[8][20:]) == {"full"}
    assert late == 0.0


def test_sizes_that_were_never_seen_cost_what_their_rows_do():
    sizes = CallSizes([4])
    assert sizes.factor((4,)) == 1.0
    assert sizes.factor((2,)) == pytest.approx(0.5)
    for _ in range(3):
        sizes.observe((16,), np.log(2.0))
    assert sizes.factor((16,)) == pytest.approx(2.0)
    assert sizes.factor((32,)) == pytest.approx(4.0)
    assert sizes.factor((5,)) == pytest.approx(1.25)


def test_a_call_is_judged_by_its_own_size():
    clock = FakeClock()
    backend = NullBackend({"full": [8.0, 40.0] * 50}, {"y": np.zeros(1)}, clock)
    engine = AdaptiveEngine(
        [FULL],
        [TensorSpec("x", "float32", ("N", 2))],
        backend,
        dimensions=(Dimension("N", 1, 1, 8),),
        budget=Budget(latency_ms=20.0),
        clock=clock,
        warm_up_runs=0,
    )
    with engine:
        for _ in range(40):
            engine(np.zeros((1, 2), np.float32))
            one = engine.last
            engine(np.zeros((5, 2), np.float32))
            five = engine.last
    assert (one.feasible, five.feasible) == (True, False)
    assert 8.0 <= one.predicted_ms < 13.0
    assert 40.0 <= five.predicted_ms < 65.0
    assert five.decision.limit == pytest.approx(20.0)
    assert five.decision.typical_ms == pytest.approx(40.0, rel=0.02)
    assert engine.stats().slowdown == pytest.approx(1.0, rel=0.02)


def test_what_was_measured_is_interpolated():
    at = [((1, 64), 0.25), ((8, 64), 2.0), ((4, 16), 0.5), ((4, 128), 4.0), ((8, 128), 6.0)]
    measured = [replace(FULL, by_size=tuple(SizeFactor(*each) for each in at))]
    sizes = CallSizes([4, 64], measured)
    for key, factor in at:
        assert sizes.factor(key) == pytest.approx(factor)
    assert sizes.factor((2, 64)) == pytest.approx(0.5)  # half way, on logarithmic scales
    assert sizes.factor((4, 32)) == pytest.approx(0.5**0.5)
    assert sizes.factor((1, 16)) == pytest.approx(0.125)  # nobody measured where both change
    assert sizes.factor((2, 128)) == pytest.approx(2.0)
    for _ in range(3):
        sizes.observe((4, 128), np.log(5.0))
    assert sizes.factor((4, 128)) == pytest.approx(5.0)
    assert sizes.factor((8, 128)) == pytest.approx(6.0 * 5 / 4)  # as its neighbour deviates


def test_few_sizes_are_remembered():
    sizes = CallSizes([10])
    for size in range(11, 400):
        sizes.observe((size,), 0.0)
    assert sizes.factor((399,)) == pytest.approx(1.0)
    assert sizes.factor((11,)) == pytest.approx(1.1)
    assert len(sizes._logs) <= 65
