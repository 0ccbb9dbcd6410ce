"""Decisions that are kept for further calls are those that ``decide`` makes anew."""

from __future__ import annotations

import numpy as np
import pytest

from skipc.runtime import Budget, OperatingPoint, decide
from skipc.runtime.call.controller import Controller
from skipc.runtime.call.lifetime import InFlight
from skipc.runtime.call.orders import Orders
from skipc.runtime.governor import before_choice, first_state
from tests.runtime.governor.families import FAMILY

STEPS = 2500


def random_family(random):
    count = int(random.integers(1, 9))
    p50_ms = random.uniform(2, 20, count)
    p95_ms = p50_ms * random.uniform(1.0, 1.3, count)
    ranks = np.round(random.uniform(0.8, 0.9, count), int(random.integers(1, 4)))
    return [
        OperatingPoint(f"c{i}", *map(float, row), energy_mj=float(mj))
        for i, (*row, mj) in enumerate(
            zip(ranks, p50_ms, p95_ms, p50_ms * random.uniform(5, 12, count), strict=True)
        )
    ]


def random_budget(random, points):
    def about(values):
        return float(random.uniform(0.9 * min(values), 1.3 * max(values)))

    kind, limits = int(random.integers(0, 6)), {}
    if kind in (0, 1, 2):
        limits["latency_ms"] = about([point.p50_ms for point in points])
    if kind in (2, 3, 4):
        limits["energy_mj"] = about([point.energy_mj for point in points])
    if kind == 4 and random.random() < 0.3:
        limits["power_w"] = 8.0
    if random.random() < 0.2:
        limits["min_accuracy"] = float(max(point.rank for point in points)) - 0.02
    return Budget(**limits, quantile=float(random.choice([0.5, 0.9, 0.99, 0.999])))


def compared(seed, steps=STEPS):
    """Returns for how many of the steps a decision was kept; each is that of ``decide``."""
    random = np.random.default_rng(seed)
    points = random_family(random)
    named = {point.configuration: point for point in points}
    orders = Orders(named, "accuracy", True, None)
    control = Controller(named, first_state(points), orders, InFlight())
    now_ns, slowdown, kept = 0, 1.0, 0
    noise = float(random.choice([0.0, 0.02, 0.1]))
    for _ in range(steps):
        if random.random() < 0.01:
            orders.budget = random_budget(random, points)
        if random.random() < 0.01:
            slowdown = float(random.choice([1.0, 1.0, 1.1, 2.0]))
        if random.random() < 0.005:
            control.mark_bad(points[0].configuration, ValueError("x"), "c1")
        if random.random() < 0.02:
            control.restore(points[0].configuration)
        budget, now_s = orders.budget, now_ns / 1e9
        deadline_ms = float(random.uniform(2, 20)) if random.random() < 0.02 else None
        state = before_choice(control.state, budget, now_s, 0.0)
        usable = control.health.usable()
        expected = decide(usable, budget, state, now_s, None, deadline_ms)
        begun = control.begin(now_ns, deadline_ms)
        kept += begun.latency is not None
        latency_ms = slowdown * named[begun.configuration].p50_ms
        latency_ms *= float(np.exp(random.normal(0, noise)))
        if random.random() < 0.01:
            latency_ms += 30.0
        now_ns += round(latency_ms * 1e6)
        control.end(begun, now_ns, latency_ms)
        assert control.last.decision == expected
        now_ns += round(float(random.exponential(1e6)))
    return kept / steps


@pytest.mark.parametrize("seed", range(4))
def test_what_is_kept_is_what_would_be_decided(seed):
    assert compared(seed) > 0.1


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
