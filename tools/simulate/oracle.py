"""What could be had by someone who knows the device: its true latencies, and how it slows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from skipc.runtime.governor.averages import best_mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime import Budget, OperatingPoint
    from skipc.tools.simulate.device import InMode, SimulatedDevice, TrueCosts


class Best(NamedTuple):
    """What could be had from one call: the best mean rank, or the cheapest where none fits.

    ``energy_mj`` is what the device takes for it, up to the next call; of modes that come to
    the same rank that is the least.
    """

    rank: float
    feasible: bool
    energy_mj: float


@final
class Oracle:
    """Knows a simulated device, except for the noise of single calls.

    ``period_ms`` is the mean time between two arrivals; 0 where calls follow one another.
    """

    def __init__(
        self, points: Sequence[OperatingPoint], device: SimulatedDevice, period_ms: float
    ) -> None:
        self._points = points
        self._device = device
        self._period_ms = period_ms
        self._quantiles: dict[float, float] = {}
        self._known: dict[tuple[Budget, tuple[float, ...], float], Best] = {}

    def best(
        self, budget: Budget, slowdowns: Sequence[float], difficulty: float = 1.0
    ) -> Best:
        """Returns what could be had from a call under ``budget`` at these slow-downs.

        There is one for each mode of the device; a change between them costs nothing.
        ``difficulty`` is how hard samples are, as ``Scenario.difficulty_at`` says.
        """
        key = (budget, tuple(round(each, 4) for each in slowdowns), round(difficulty, 4))
        if key not in self._known:
            found = [
                self._best(budget, mode, slowdown, difficulty)
                for mode, slowdown in zip(self._device.modes, slowdowns, strict=True)
            ]
            order = [(one.feasible, one.rank, -one.energy_mj) for one in found]
            self._known[key] = found[order.index(max(order))]
        return self._known[key]

    def _best(self, budget: Budget, mode: InMode, slowdown: float, difficulty: float) -> Best:
        limit_ms = math.inf if budget.latency_ms is None else budget.latency_ms / slowdown
        known = [mode.of[point.configuration] for point in self._points]
        running_ms = [each.mean_ms(difficulty) * slowdown for each in known]
        fitting = [
            index
            for index, each in enumerate(known)
            if self._within(each, limit_ms, slowdown, difficulty) >= budget.quantile
        ]
        if budget.hard and not fitting:  # what can stop in time answers with what it has
            spread = self._spread(budget.quantile)
            ends_ms = [each.upto_ms[0] * spread for each in known]
            fitting = [
                index
                for index, each in enumerate(known)
                if len(each.upto_ms) > 1 and ends_ms[index] <= limit_ms
            ]
        spent_mj = [
            cost.mj_per_ms * cost.mean_ms(difficulty)
            + mode.idle_w * max(self._period_ms - ms, 0.0)
            for cost, ms in zip(known, running_ms, strict=True)
        ]
        if len(self._device.modes) > 1 and self._period_ms > 0:
            # In a slow mode no caller is to fall behind, or less would be served for less.
            fitting = [index for index in fitting if running_ms[index] <= self._period_ms]
        floor = -math.inf if budget.min_accuracy is None else budget.min_accuracy
        fitting = [index for index in fitting if self._points[index].rank >= floor]
        if not fitting:
            fastest = min(range(len(running_ms)), key=lambda index: running_ms[index])
            return Best(self._points[fastest].rank, False, spent_mj[fastest])
        ranks = [self._points[index].rank for index in fitting]
        best = max(zip(ranks, (-spent_mj[index] for index in fitting), strict=True))
        for excesses in self._excesses(budget, mode, fitting, running_ms, difficulty):
            mix = best_mix(excesses, ranks)
            if mix is None:
                cheapest = min(range(len(fitting)), key=lambda index: excesses[index])
                return Best(ranks[cheapest], False, spent_mj[fitting[cheapest]])
            low, high = ranks[mix.low], ranks[mix.high]
            low_mj, high_mj = spent_mj[fitting[mix.low]], spent_mj[fitting[mix.high]]
            mean = low + mix.share * (high - low), -low_mj - mix.share * (high_mj - low_mj)
            best = min(best, mean)
        return Best(best[0], True, -best[1])

    def _spread(self, quantile: float) -> float:
        """Returns the quantile of a latency over its median, as the noise has it."""
        if quantile not in self._quantiles:
            self._quantiles[quantile] = float(np.quantile(self._device.noise, quantile))
        return self._quantiles[quantile]

    def _within(
        self, one: TrueCosts, limit_ms: float, slowdown: float, difficulty: float
    ) -> float:
        """Returns the share of a configuration's calls that end in time.

        ``limit_ms`` is over the slow-down, which stalls do not grow with.
        """
        device, rate = self._device, self._device.stall_rate
        held_ms = limit_ms - device.stall_ms / slowdown
        medians_ms, noise = np.array(one.upto_ms), device.noise
        free, held = (
            np.searchsorted(noise, ms / medians_ms, "right") for ms in (limit_ms, held_ms)
        )
        within = ((1 - rate) * free + rate * held) / len(noise)
        return float(one.shares(difficulty) @ within)

    def _excesses(
        self,
        budget: Budget,
        mode: InMode,
        fitting: list[int],
        running_ms: list[float],
        difficulty: float,
    ) -> list[list[float]]:
        """Returns what a call takes beyond its grant, for each average that is limited."""
        costs = [mode.of[self._points[i].configuration] for i in fitting]
        energies_mj = [each.mj_per_ms * each.mean_ms(difficulty) for each in costs]
        found = []
        if budget.energy_mj is not None:
            found.append([mj - budget.energy_mj for mj in energies_mj])
        powers_w = [] if budget.power_w is None else [budget.power_w]
        if budget.energy_j is not None and budget.horizon_s is not None:
            powers_w.append(budget.energy_j / budget.horizon_s)
        for power_w in powers_w:
            excesses = []
            for index, mj in zip(fitting, energies_mj, strict=True):
                period_ms = max(self._period_ms, running_ms[index])
                idle_mj = mode.idle_w * (period_ms - running_ms[index])
                excesses.append(mj + idle_mj - power_w * period_ms)
            found.append(excesses)
        return found
