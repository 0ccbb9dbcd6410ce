"""Decisions that are kept for further calls are those that ``decide`` makes anew."""

from __future__ import annotations

import numpy as np
import pytest

from skipc.runtime import Budget, OperatingPoint
from skipc.runtime.call.controller import Controller
from skipc.runtime.call.lifetime import InFlight
from skipc.runtime.call.orders import Orders
from skipc.runtime.governor import first_state
from skipc.tools.bench.keeping import compared
from tests.runtime.governor.families import FAMILY

STEPS = 2500


@pytest.mark.parametrize("seed", range(4))
def test_what_is_kept_is_what_would_be_decided(seed):
    found = compared(seed, STEPS)
    assert found.differing == 0
    assert found.kept > 0.1 * STEPS


MANY = tuple(
    OperatingPoint(f"c{n}", -n, 9.0 - 0.01 * n, 9.3 - 0.01 * n, energy_mj=90.0 - 0.1 * n)
    for n in range(500)
)


@pytest.mark.parametrize(
    ("points", "budget", "least"),
    [
        (FAMILY, Budget(), 0.99),
        (FAMILY, Budget(latency_ms=7.0), 0.9),
        (FAMILY, Budget(energy_mj=60.0), 0.9),
        (MANY, Budget(latency_ms=7.0), 0.8),
    ],
)
def test_under_a_budget_that_stays_hardly_anything_is_decided_anew(points, budget, least):
    named = {point.configuration: point for point in points}
    orders = Orders(named, "accuracy", True, budget)
    control = Controller(named, first_state(points), orders, InFlight())
    now_ns, kept, calls = 0, 0, 600
    for noise in np.random.default_rng(0).normal(0, 0.02, calls):
        begun = control.begin(now_ns)
        kept += begun.latency is not None
        latency_ms = named[begun.configuration].p50_ms * float(np.exp(noise))
        now_ns += round(latency_ms * 1e6)
        control.end(begun, now_ns, latency_ms)
    assert kept / calls > least
