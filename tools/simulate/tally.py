"""Counting what comes of a scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from skipc.runtime.governor.account import BURST_CALLS
from skipc.tools.simulate.oracle import Oracle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime import Budget, CallRecord, EngineStats, OperatingPoint
    from skipc.tools.simulate.device import SimulatedDevice
    from skipc.tools.simulate.scenario import Scenario

ADAPTATION_CALLS = 20
"""Calls after something changed at once that do not count."""


@dataclass(frozen=True, slots=True)
class Average:
    """How an average budget was kept.

    Attributes:
        kind: ``energy``, ``power`` or ``battery``.
        granted: Millijoules per call, or watts (a battery: if it is spent evenly).
        taken: What was taken, in the same unit.
        largest_overdraft_of_burst: How much more than granted had been taken at the worst
            moment, over the burst that is allowed.
    """

    kind: str
    granted: float
    taken: float
    largest_overdraft_of_burst: float


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of a scenario.

    Attributes:
        scenario: What was replayed.
        calls: All calls.
        counted_calls: Calls after adaptation whose budget could be met.
        within_budget: Share of the counted calls within the latency budget.
        within_budget_of_all_calls: The same of all calls that could be, those of adaptation
            included.
        limited: Whether any call had a latency budget.
        mean_rank: Mean rank of the counted calls.
        oracle_rank: What the oracle could have had.
        cheapest_rank: Mean rank of always running the fastest configuration.
        switches_per_s: How often the configuration changed.
        average: How an average budget was kept; None without one.
        simulated_s: Time on the device.
        taken_s: Time that the replay took.
        stats: The engine's, at the end.
        records: The last calls.
    """

    scenario: Scenario
    calls: int
    counted_calls: int
    within_budget: float
    within_budget_of_all_calls: float
    limited: bool
    mean_rank: float
    oracle_rank: float
    cheapest_rank: float
    switches_per_s: float
    average: Average | None
    simulated_s: float
    taken_s: float
    stats: EngineStats
    records: tuple[CallRecord, ...]

    @property
    def gain(self) -> float:
        """The gain over the cheapest configuration, as a share of the oracle's."""
        possible = self.oracle_rank - self.cheapest_rank
        return 1.0 if possible <= 0 else (self.mean_rank - self.cheapest_rank) / possible


@final
class Tally:
    """Counts the calls of a replay.

    Args:
        scenario: What is replayed.
        points: The configurations.
        device: The device.
    """

    def __init__(
        self, scenario: Scenario, points: Sequence[OperatingPoint], device: SimulatedDevice
    ) -> None:
        self._scenario = scenario
        self._device = device
        self._ranks = {point.configuration: point.rank for point in points}
        self._cheapest = min(points, key=lambda point: point.p50_ms).rank
        self._oracle = Oracle(points, device, scenario.arrivals.mean_period * device.full_ms)
        self._steps_s = list(scenario.steps_s())
        self._adapting = 0
        self._calls = self._counted = self._within = 0
        self._possible = self._possible_within = 0
        self._limited = False
        self._rank = self._best_rank = 0.0
        self._average: _Running | None = None

    def grant(self, budget: Budget) -> None:
        """Takes note of a budget that is granted from now on."""
        self._average = _running(budget, self._device)

    def add(self, record: CallRecord, began_s: float) -> None:
        """Counts a call that began at ``began_s``."""
        self._calls += 1
        while self._steps_s and self._steps_s[0] <= began_s:
            self._steps_s.pop(0)
            self._adapting = ADAPTATION_CALLS
        if self._average is not None:
            self._average.add_call()
        self._limited |= record.limit_ms is not None
        best = self._oracle.best(record.budget, self._scenario.slowdown_at(began_s))
        if best.feasible:
            self._possible += 1
            self._possible_within += record.within_budget
        if self._adapting > 0:
            self._adapting -= 1
        elif best.feasible:
            self._counted += 1
            self._within += record.within_budget
            self._rank += self._ranks[record.configuration]
            self._best_rank += best.rank

    def result(
        self, stats: EngineStats, records: tuple[CallRecord, ...], taken_s: float
    ) -> Replay:
        """Returns what was counted.

        Args:
            stats: The engine's, at the end.
            records: Its last calls.
            taken_s: Time that the replay took.
        """
        counted, simulated_s = max(self._counted, 1), self._device.now_s
        return Replay(
            scenario=self._scenario,
            calls=self._calls,
            counted_calls=self._counted,
            within_budget=self._within / counted,
            within_budget_of_all_calls=self._possible_within / max(self._possible, 1),
            limited=self._limited,
            mean_rank=self._rank / counted,
            oracle_rank=self._best_rank / counted,
            cheapest_rank=self._cheapest,
            switches_per_s=stats.switches / simulated_s,
            average=None if self._average is None else self._average.result(),
            simulated_s=simulated_s,
            taken_s=taken_s,
            stats=stats,
            records=records,
        )


class _Running:
    """How an average budget is kept, call by call.

    Args:
        kind: ``energy``, ``power`` or ``battery``.
        limit: Millijoules per call, or watts.
        burst_mj: What may be taken beyond that at any moment.
        device: What takes it.
    """

    def __init__(
        self, kind: str, limit: float, burst_mj: float, device: SimulatedDevice
    ) -> None:
        self._kind = kind
        self._limit = limit
        self._burst_mj = burst_mj
        self._device = device
        self._calls = 0
        self._began_s = device.now_s
        self._spent_mj = self._spent()
        self._worst_mj = 0.0

    def _spent(self) -> float:
        # Energy per inference leaves out what the device takes between calls.
        device = self._device
        return device.spent_in_calls_mj if self._kind == "energy" else device.spent_mj

    def _granted(self) -> float:
        if self._kind == "energy":
            return self._limit * self._calls
        return self._limit * (self._device.now_s - self._began_s) * 1000

    def add_call(self) -> None:
        self._calls += 1
        over_mj = self._spent() - self._spent_mj - self._granted()
        self._worst_mj = max(self._worst_mj, over_mj)

    def result(self) -> Average:
        taken = self._spent() - self._spent_mj
        return Average(
            self._kind,
            self._limit,
            self._limit * taken / max(self._granted(), 1e-9),
            self._worst_mj / self._burst_mj,
        )


def _running(budget: Budget, device: SimulatedDevice) -> _Running | None:
    if budget.energy_mj is not None:
        return _Running("energy", budget.energy_mj, BURST_CALLS * budget.energy_mj, device)
    if budget.power_w is not None and budget.window_s is not None:
        burst_mj = budget.power_w * budget.window_s * 1000
        return _Running("power", budget.power_w, burst_mj, device)
    if budget.energy_j is not None and budget.horizon_s is not None:
        limit_w = budget.energy_j / budget.horizon_s
        return _Running("battery", limit_w, budget.energy_j * 1000, device)
    return None
