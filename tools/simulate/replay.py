"""Replaying a scenario against the governor, on a clock that is moved by hand."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skipc import runtime
from skipc.runtime import AdaptiveEngine, FakeClock, Sampler, TensorSpec
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.route import Stage, Test
from skipc.runtime.load.opening import Family
from skipc.tools.simulate.changing import SimulatedChanger
from skipc.tools.simulate.device import (
    SimulatedDevice,
    SimulatedMeter,
    budget_of,
    most_accurate,
    times,
)
from skipc.tools.simulate.scenario import ScenarioError
from skipc.tools.simulate.tally import ADAPTATION_CALLS, Replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from skipc.runtime import Budget, OperatingPoint
    from skipc.runtime.backends import Arrays, Outputs
    from skipc.tools.simulate.scenario import Scenario


LEAST_MS = 10.0
"""What a call of the most accurate configuration takes at least: faster networks are slowed.

Latencies and energies grow alike, and what is granted with them; powers and all times stay. So
there are fewer calls between two changes than there would be.
"""
IDLE_OFF = 1.03
"""How well the idle power was measured before: 3 % too high."""
_INPUT, _OUTPUT = (TensorSpec(name, "float32", (1,)) for name in "xy")
_TEST = Test("y", {"value": 1.0}, threshold=0.5)


def replay(
    scenario: Scenario,
    points: Sequence[OperatingPoint],
    ranked_by: str = "accuracy",
    budget: Budget | None = None,
    stops: Mapping[str, Sequence[float]] | None = None,
) -> Replay:
    """Returns what comes of a scenario for a family.

    Args:
        scenario: What happens.
        points: The configurations.
        ranked_by: What their rank is.
        budget: Granted all the time instead of what the scenario grants; None does not.
        stops: By configuration the share of samples that each stage answers, of those whose
            point has several; their routes are taken to go from each to the next.

    Raises:
        BudgetError: ``budget`` asks for what is not known of the configurations.
        ScenarioError: Energy is granted, and nothing is known of it.
    """
    clock = FakeClock()
    device = SimulatedDevice(scenario, points, clock, stops)
    sampler = None
    if scenario.meter is not None:
        sampler = Sampler(SimulatedMeter(scenario.meter, device, scenario.seed + 1), clock)
    routes, stages = _routes(points)
    scripts = {graph: lambda _, at=at: device.stage_ms(*at) for graph, at in stages.items()}

    def answer(graph: str, _: Arrays) -> Outputs:
        return {"y": np.array([device.answers(*stages[graph])], np.float32)}

    backend = NullBackend(scripts, answer, clock)
    grants = [(grant.at_s, budget_of(grant, scenario, device)) for grant in scenario.grants]
    if budget is not None:
        grants = [(0.0, budget)]
    known = sampler is not None or all(point.energy_mj > 0 for point in points)
    if not known and any(granted.has_average for _, granted in grants):
        raise ScenarioError(
            f"{scenario.name}: energy or power is granted, and nothing is known of either."
            " Give the scenario a [meter], or each configuration an 'energy_mj' in front.json."
        )
    changer = None
    if scenario.modes:
        changer = SimulatedChanger(scenario, points, device, stops or {})
        points = changer.modes[0].points
    with _quiet(), AdaptiveEngine(
        points, [_INPUT], backend,
        clock=clock, warm_up_runs=0, ranked_by=ranked_by, sampler=sampler,
        idle_w=None if sampler is None else device.idle_w * IDLE_OFF,
        family=Family(routes, [_OUTPUT]), modes=changer,
    ) as engine:  # fmt: skip
        started_s, sample = time.perf_counter(), np.zeros(1, np.float32)
        found = Replay(scenario, points, device)
        next_poll_s = 0.0
        for arrival_ms in _arrivals_ms(scenario, device, clock):
            device.idle_ms(arrival_ms - clock.now_ns() / 1e6)
            now_s = device.now_s
            while grants and grants[0][0] <= now_s:
                engine.budget = grants.pop(0)[1]
                found.grant(engine.budget)
            if sampler is not None and now_s >= next_poll_s:
                next_poll_s = now_s + sampler.poll()
            if changer is not None and changer.look():
                found.beside_change = ADAPTATION_CALLS
            device.next_sample()
            engine(sample)
            record = engine.last
            assert record is not None
            found.add(record, now_s)
        found.taken_s = time.perf_counter() - started_s
        found.stats, found.records = engine.stats(), engine.trace()
        return found


def _routes(
    points: Sequence[OperatingPoint],
) -> tuple[dict[str, tuple[Stage, ...]], dict[str, tuple[str, int]]]:
    """Returns each configuration's route, and by graph whose and which stage it is."""
    routes: dict[str, tuple[Stage, ...]] = {}
    stages: dict[str, tuple[str, int]] = {}
    for index, point in enumerate(points):
        graphs = [f"{index}.{number}" for number, _ in enumerate(point.upto_ms or (0.0,))]
        stages |= {graph: (point.configuration, at) for at, graph in enumerate(graphs)}
        *tested, last = graphs
        route = [*(Stage(graph, test=_TEST) for graph in tested), Stage(last)]
        routes[point.configuration] = tuple(route)
    return routes, stages


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what happens to the simulated device out of the log."""
    logger = logging.getLogger(runtime.__name__)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _arrivals_ms(
    scenario: Scenario, device: SimulatedDevice, clock: FakeClock
) -> Iterator[float]:
    """Yields when calls arrive; those that would have to wait for a whole period are lost."""
    arrivals, end_ms = scenario.arrivals, scenario.duration_s * 1000
    period_ms = arrivals.period * device.full_ms
    next_ms = 0.0
    while (now_ms := clock.now_ns() / 1e6) < end_ms:
        if arrivals.kind == "back-to-back":
            yield now_ms
            continue
        start_ms = max(next_ms, now_ms)
        yield start_ms
        for _ in range(arrivals.calls - 1):
            yield clock.now_ns() / 1e6
        next_ms = max(next_ms + period_ms, clock.now_ns() / 1e6 - period_ms)


def slow_enough(points: Sequence[OperatingPoint]) -> float:
    """Returns by what to multiply latencies so that the most accurate takes ``LEAST_MS``.

    1 where it takes that long already.
    """
    return max(LEAST_MS / most_accurate(points).p50_ms, 1.0)


def scaled(points: Sequence[OperatingPoint], factor: float) -> tuple[OperatingPoint, ...]:
    """Returns the points with latencies and energies multiplied by ``factor``."""
    return tuple(
        replace(
            point,
            p50_ms=point.p50_ms * factor,
            p95_ms=point.p95_ms * factor,
            p99_ms=times(point.p99_ms, factor),
            energy_mj=point.energy_mj * factor,
            upto_ms=tuple(ms * factor for ms in point.upto_ms),
            upto_p99_ms=tuple(ms * factor for ms in point.upto_p99_ms),
        )
        for point in points
    )


def scaled_budget(budget: Budget, factor: float) -> Budget:
    """Returns the budget that grants the scaled family what ``budget`` grants the real one."""
    return replace(
        budget,
        latency_ms=times(budget.latency_ms, factor),
        energy_mj=times(budget.energy_mj, factor),
    )
