"""Decisions that are kept for further calls, step by step beside what would be decided anew.

A million random steps: families, budgets and deadlines that change, noise, stalls, a device
that slows down, configurations that fail and come back. Each of the hundred runs has a seed,
so that they share the processors and one that differs can be run alone.
"""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skipc.runtime import Budget, OperatingPoint, decide
from skipc.runtime.call.controller import Controller
from skipc.runtime.call.lifetime import InFlight
from skipc.runtime.call.orders import Orders
from skipc.runtime.governor import before_choice, first_state
from skipc.tools.bench.harness import Bar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    Random = np.random.Generator

NAME = "kept decisions"
_RUNS = 100
_STEPS = 10_000


class Compared(NamedTuple):
    """Of how many steps a decision was kept, and of how many it was another one."""

    kept: int
    differing: int


def bars(place: Path) -> list[Bar]:
    """Returns the share of decisions that are those of ``decide``; writes nothing."""
    del place
    # What fails, and fits no budget, does so on purpose.
    quiet = ProcessPoolExecutor(
        mp_context=get_context("spawn"), initializer=logging.disable, initargs=(logging.ERROR,)
    )
    with quiet as pool:
        found = [*pool.map(compared, range(_RUNS), [_STEPS] * _RUNS)]
    steps, differing = _RUNS * _STEPS, sum(one.differing for one in found)
    seeds = [str(seed) for seed, one in enumerate(found) if one.differing]
    note = f"{differing} of {steps:,} differ; {sum(o.kept for o in found) / steps:.2f} kept"
    if seeds:
        note += f"; seeds {' '.join(seeds)}"
    what = "decisions that are those of decide(), random steps"
    return [Bar(NAME, what, 1 - differing / steps, None, note=note, least=1.0)]


def compared(seed: int, steps: int) -> Compared:
    """Returns what came of so many random steps."""
    random = np.random.default_rng(seed)
    points = _random_family(random)
    named = {point.configuration: point for point in points}
    orders = Orders(named, "accuracy", True, None)
    control = Controller(named, first_state(points), orders, InFlight())
    now_ns, slowdown, kept, differing = 0, 1.0, 0, 0
    noise = float(random.choice([0.0, 0.02, 0.1]))
    for _ in range(steps):
        if random.random() < 0.01:
            orders.budget = _random_budget(random, points)
        if random.random() < 0.01:
            slowdown = float(random.choice([1.0, 1.0, 1.1, 2.0]))
        if random.random() < 0.005:
            control.mark_bad(points[0].configuration, ValueError("x"), "c1")
        if random.random() < 0.02:
            control.restore(points[0].configuration)
        budget, now_s = orders.budget, now_ns / 1e9
        deadline_ms = float(random.uniform(2, 20)) if random.random() < 0.02 else None
        state = before_choice(control.state, budget, now_s, 0.0)
        expected = decide(control.health.usable(), budget, state, now_s, None, deadline_ms)
        begun = control.begin(now_ns, deadline_ms)
        kept += begun.latency is not None
        latency_ms = slowdown * named[begun.configuration].p50_ms
        latency_ms *= float(np.exp(random.normal(0, noise)))
        if random.random() < 0.01:
            latency_ms += 30.0
        now_ns += round(latency_ms * 1e6)
        control.end(begun, now_ns, latency_ms)
        differing += control.last is None or control.last.decision != expected
        now_ns += round(float(random.exponential(1e6)))
    return Compared(kept, differing)


def _random_family(random: Random) -> Sequence[OperatingPoint]:
    count = int(random.integers(1, 9))
    p50_ms = random.uniform(2, 20, count)
    p95_ms = p50_ms * random.uniform(1.0, 1.3, count)
    ranks = np.round(random.uniform(0.8, 0.9, count), int(random.integers(1, 4)))
    energies_mj = p50_ms * random.uniform(5, 12, count)
    columns = zip(ranks.tolist(), p50_ms.tolist(), p95_ms.tolist(), energies_mj, strict=True)
    return [
        OperatingPoint(f"c{n}", rank, p50, p95, energy_mj=float(mj))
        for n, (rank, p50, p95, mj) in enumerate(columns)
    ]


def _random_budget(random: Random, points: Sequence[OperatingPoint]) -> Budget:
    def about(values: Iterable[float]) -> float:
        known = [*values]
        return float(random.uniform(0.9 * min(known), 1.3 * max(known)))

    kind = int(random.integers(0, 6))
    latency_ms = energy_mj = power_w = min_accuracy = None
    if kind in (0, 1, 2):
        latency_ms = about(point.p50_ms for point in points)
    if kind in (2, 3, 4):
        energy_mj = about(point.energy_mj or 0.0 for point in points)
    if kind == 4 and random.random() < 0.3:
        power_w = 8.0
    if random.random() < 0.2:
        min_accuracy = float(max(point.rank for point in points)) - 0.02
    quantile = float(random.choice([0.5, 0.9, 0.99, 0.999]))
    return Budget(
        latency_ms=latency_ms,
        energy_mj=energy_mj,
        power_w=power_w,
        min_accuracy=min_accuracy,
        quantile=quantile,
    )
