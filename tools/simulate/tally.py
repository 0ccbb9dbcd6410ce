"""Counting what comes of a scenario."""

from __future__ import annotations

from collections import Counter
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


@final
class Replay:
    """What comes of a scenario, call by call."""

    stats: EngineStats
    """The engine's, at the end."""
    records: tuple[CallRecord, ...]
    """Its last calls."""

    def __init__(
        self, scenario: Scenario, points: Sequence[OperatingPoint], device: SimulatedDevice
    ) -> None:
        self.scenario = scenario
        self.calls = 0
        self.counted_calls = 0
        """Calls after adaptation whose budget could be met."""
        self.limited = False
        """Whether any call had a latency budget."""
        self.cheapest_rank = min(points, key=lambda point: point.p50_ms).rank
        """Mean rank of always running the fastest configuration."""
        self.average: Average | None = None
        """How an average budget is kept; None without one."""
        self.stages: Counter[int] = Counter()
        """Calls of configurations with several stages, by the one that answered."""
        self.cut_calls = 0
        """Those of them that a hard deadline ended."""
        self.oracle_mj = 0.0
        """What the oracle's calls take, pauses included."""
        self.beside_change = 0
        """How many calls from now on count as made beside a change of the mode."""
        self.calls_beside_changes = self.late_beside_changes = 0
        """Those of them whose budget could be met, and was not."""
        self.taken_s = 0.0
        """Time that the replay took."""
        self._device = device
        self._stages = {point.configuration: len(point.upto_ms) for point in points}
        self._ranks = {point.configuration: point.rank for point in points}
        self._oracle = Oracle(points, device, scenario.arrivals.mean_period * device.full_ms)
        self._steps_s = list(scenario.steps_s())
        self._adapting = self._within = self._possible = self._possible_within = 0
        self._rank = self._best_rank = 0.0

    def grant(self, budget: Budget) -> None:
        """Takes note of a budget that is granted from now on."""
        self.average = average_of(budget, self._device)

    def add(self, record: CallRecord, began_s: float) -> None:
        """Counts a call that began at ``began_s``."""
        self.calls += 1
        while self._steps_s and self._steps_s[0] <= began_s:
            self._steps_s.pop(0)
            self._adapting = ADAPTATION_CALLS
        if self.average is not None:
            self.average.add_call()
        self.limited |= record.limit_ms is not None
        if self._stages[record.configuration] > 1:
            self.stages.update([record.stage])
            self.cut_calls += record.stopped_by == "deadline"
        best = self._oracle.best(
            record.budget,
            [
                self.scenario.slowdown_at(began_s, each.mode.name)
                for each in self._device.modes
            ],
            self.scenario.difficulty_at(began_s),
        )
        self.oracle_mj += best.energy_mj
        if self.beside_change > 0 and best.feasible:
            self.calls_beside_changes += 1
            self.late_beside_changes += not record.within_budget
        self.beside_change -= 1
        if best.feasible:
            self._possible += 1
            self._possible_within += record.within_budget
        if self._adapting > 0:
            self._adapting -= 1
        elif best.feasible:
            self.counted_calls += 1
            self._within += record.within_budget
            self._rank += self._ranks[record.configuration]
            self._best_rank += best.rank

    @property
    def within_budget(self) -> float:
        """Share of the counted calls within the latency budget."""
        return self._within / max(self.counted_calls, 1)

    @property
    def within_budget_of_all_calls(self) -> float:
        """The same of all calls that could be, those of adaptation included."""
        return self._possible_within / max(self._possible, 1)

    @property
    def mean_rank(self) -> float:
        """Mean rank of the counted calls."""
        return self._rank / max(self.counted_calls, 1)

    @property
    def oracle_rank(self) -> float:
        """What the oracle could have had."""
        return self._best_rank / max(self.counted_calls, 1)

    @property
    def gain(self) -> float:
        """The gain over the cheapest configuration, as a share of the oracle's."""
        possible = self.oracle_rank - self.cheapest_rank
        return 1.0 if possible <= 0 else (self.mean_rank - self.cheapest_rank) / possible

    @property
    def stage_shares(self) -> tuple[float, ...]:
        """Of the calls of routes, the share that each stage answered; empty without one."""
        count = max(self.stages, default=-1) + 1
        return tuple(self.stages[at] / self.stages.total() for at in range(count))

    @property
    def spent_mj(self) -> float:
        """What the device took, pauses included."""
        return self._device.spent_mj

    @property
    def simulated_s(self) -> float:
        """Time on the device."""
        return self._device.now_s

    @property
    def switches_per_s(self) -> float:
        """How often the configuration changed."""
        return self.stats.switches / self.simulated_s


@final
class Average:
    """How an average budget is kept, call by call.

    Args:
        kind: ``energy``, ``power`` or ``battery``.
        granted: Millijoules per call, or watts (a battery: if it is spent evenly).
        burst_mj: What may be taken beyond that at any moment.
        device: What takes it.
    """

    def __init__(
        self, kind: str, granted: float, burst_mj: float, device: SimulatedDevice
    ) -> None:
        self.kind = kind
        self.granted = granted
        self.taken = 0.0
        """What was taken, in the same unit."""
        self.largest_overdraft_of_burst = 0.0
        """How much more than granted had been taken at the worst moment, over the burst."""
        self._burst_mj = burst_mj
        self._device = device
        self._calls = 0
        self._began_s = device.now_s
        self._before_mj = self._spent_mj()

    def _spent_mj(self) -> float:
        # Energy per inference leaves out what the device takes between calls.
        device = self._device
        return device.spent_in_calls_mj if self.kind == "energy" else device.spent_mj

    def add_call(self) -> None:
        """Takes note of what a call took."""
        self._calls += 1
        taken_mj = self._spent_mj() - self._before_mj
        passed_s = self._device.now_s - self._began_s
        units = self._calls if self.kind == "energy" else passed_s * 1000
        granted_mj = self.granted * units
        self.taken = self.granted * taken_mj / max(granted_mj, 1e-9)
        overdraft = (taken_mj - granted_mj) / self._burst_mj
        self.largest_overdraft_of_burst = max(self.largest_overdraft_of_burst, overdraft)


def average_of(budget: Budget, device: SimulatedDevice) -> Average | None:
    """Returns how the average that a budget grants is kept; None without one."""
    if budget.energy_mj is not None:
        return Average("energy", budget.energy_mj, BURST_CALLS * budget.energy_mj, device)
    if budget.power_w is not None and budget.window_s is not None:
        burst_mj = budget.power_w * budget.window_s * 1000
        return Average("power", budget.power_w, burst_mj, device)
    if budget.energy_j is not None and budget.horizon_s is not None:
        limit_w = budget.energy_j / budget.horizon_s
        return Average("battery", limit_w, budget.energy_j * 1000, device)
    return None
