"""A device that exists in numbers only: how long calls take, and what its meter shows."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property
from operator import mul
from typing import TYPE_CHECKING, final

import numpy as np

from skipc.runtime import Budget, FakeClock, Reading
from skipc.runtime.errors import MeterError
from skipc.tools.simulate.scenario import PowerMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.runtime import OperatingPoint
    from skipc.tools.simulate.scenario import Grant, Scenario, ScriptedMeter


_JUMP_CALLS = 1000
_DRAWS = 4096


def most_accurate(points: Sequence[OperatingPoint]) -> OperatingPoint:
    """Returns what a scenario's numbers are relative to: of equal ones the slowest.

    That is the whole network, where skipping costs no accuracy at first.
    """
    return max(points, key=lambda point: (point.rank, point.p50_ms))


@dataclass(frozen=True, slots=True)
class TrueCosts:
    """What a configuration truly does while nothing slows the device, at a usual difficulty.

    Attributes:
        upto_ms: Median latency up to the end of each stage of its route.
        answered: By stage, the share of samples that are answered up to there.
        mj_per_ms: Mean energy of what takes a millisecond.
    """

    upto_ms: tuple[float, ...]
    answered: tuple[float, ...]
    mj_per_ms: float

    def shares(self, difficulty: float) -> NDArray[np.float64]:
        """Returns by stage the share of samples that are answered there."""
        return np.diff(np.array(self.answered) ** difficulty, prepend=0.0)

    def mean_ms(self, difficulty: float) -> float:
        """Returns what a sample takes on average, noise left out."""
        return float(self.shares(difficulty) @ self.upto_ms)


@dataclass(frozen=True, slots=True)
class InMode:
    """What the device is in one of its power modes, while nothing slows it.

    Attributes:
        mode: The mode; one without a name where the device has none.
        of: What each configuration truly does.
        idle_w: Power while nothing runs.
    """

    mode: PowerMode
    of: Mapping[str, TrueCosts]
    idle_w: float


@final
class SimulatedDevice:
    """A device as a scenario has it, for one family; it moves the clock as time passes.

    In its first mode, if it has some, until ``change_mode``.

    ``stops`` are the shares of samples that each stage answers, of configurations that have
    several.
    """

    def __init__(
        self,
        scenario: Scenario,
        points: Sequence[OperatingPoint],
        clock: FakeClock,
        stops: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._scenario = scenario
        self._clock = clock
        self._random = np.random.default_rng(scenario.seed)
        self._samples = np.random.default_rng(scenario.seed + 2)
        self._sample = 0.0
        noise = scenario.noise
        off = np.exp(self._random.normal(0, noise.own, (2, len(points))))
        running_w = scenario.power.running_w
        of: dict[str, TrueCosts] = {}
        for point, ms_off, mj_off in zip(points, *off.tolist(), strict=True):
            name, usual_ms = point.configuration, point.upto_ms or (point.p50_ms,)
            shares = (stops or {})[name] if point.upto_ms else (1.0,)
            mj_per_ms = running_w
            if point.energy_mj:
                mj_per_ms = point.energy_mj / sum(map(mul, shares, usual_ms))
            of[name] = TrueCosts(
                tuple(ms * ms_off for ms in usual_ms),
                (*itertools.accumulate(shares[:-1]), 1.0),
                mj_per_ms * mj_off / ms_off,
            )
        best = of[most_accurate(points).configuration]
        self.full_ms = best.upto_ms[-1]
        """Median latency of the most accurate configuration, all stages."""
        self.full_mj = best.mj_per_ms * self.full_ms
        """Energy of that."""
        idle_w = scenario.power.idle * self.full_mj / self.full_ms
        self.modes = _in_modes(scenario, of, idle_w)
        """What it is in each of its modes."""
        self.now = self._before = self.modes[0]
        """The mode in force, or the one that it changes into."""
        self._changed_s = 0.0
        self.spent_mj = 0.0
        """Everything that it took so far."""
        self.spent_in_calls_mj = 0.0
        """What calls took of it."""
        self.stall_rate = noise.stall_share
        """The share of calls that something else holds up."""
        self.stall_ms = noise.stall * self.full_ms
        """By how much a stall holds a call up."""
        self._draws: list[tuple[float, float, float]] = []

    @property
    def now_s(self) -> float:
        """The time since the scenario began."""
        return self._clock.now_ns() / 1e9

    def next_sample(self) -> None:
        """Draws the sample of the next call: how hard it is among all."""
        self._sample = float(self._samples.random())

    def change_mode(self, name: str) -> float:
        """Begins to change into another mode; returns when that will be done, in seconds."""
        self._before = self.now
        self.now = next(each for each in self.modes if each.mode.name == name)
        self._changed_s = self.now_s + self.now.mode.change_s
        return self._changed_s

    def _in_force(self) -> tuple[InMode, ...]:
        """Returns the mode in force; within a change both."""
        changing = self.now_s < self._changed_s
        return (self.now, self._before) if changing else (self.now,)

    @property
    def idle_w(self) -> float:
        """Power while nothing runs."""
        return max(each.idle_w for each in self._in_force())

    def answers(self, configuration: str, stage: int) -> bool:
        """Tells whether the sample is answered at this stage of a route, or before."""
        difficulty = self._scenario.difficulty_at(self.now_s)
        share = float(self.now.of[configuration].answered[stage]) ** difficulty
        return bool(self._sample < share)

    def stage_ms(self, configuration: str, stage: int) -> float:
        """Returns what a stage that begins now takes, and takes its energy."""
        if not self._draws:
            self._draws = self._drawn()
        latency, energy, held_ms = self._draws.pop()
        usual_ms = slow_ms = power_w = 0.0
        for each in self._in_force():
            own = each.of[configuration]
            ms = own.upto_ms[stage] - (own.upto_ms[stage - 1] if stage else 0.0)
            slowdown = self._scenario.slowdown_at(self.now_s, each.mode.name)
            usual_ms, slow_ms = max(usual_ms, ms), max(slow_ms, ms * slowdown)
            power_w = max(power_w, own.mj_per_ms)
        taken_mj = power_w * usual_ms * energy
        self.spent_mj += taken_mj
        self.spent_in_calls_mj += taken_mj
        return slow_ms * latency + held_ms

    def _drawn(self) -> list[tuple[float, float, float]]:
        noise, latency = self._scenario.noise, self._latencies(self._random, _DRAWS)
        energy = np.exp(self._random.normal(0, noise.energy, _DRAWS))
        held_ms = np.zeros(_DRAWS)
        if noise.stall_share:
            held_ms[self._random.random(_DRAWS) < noise.stall_share] = self.stall_ms
        return list(zip(latency.tolist(), energy.tolist(), held_ms.tolist(), strict=True))

    def _latencies(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Returns latencies of calls over their median."""
        noise = self._scenario.noise
        found = np.exp(random.normal(0, noise.latency, count))
        found[random.random(count) < noise.spike_share] *= noise.spike_factor
        return found

    def idle_ms(self, duration_ms: float) -> None:
        """Lets time pass in which nothing runs."""
        if duration_ms > 0:
            self.spent_mj += self.idle_w * duration_ms
            self._clock.advance_ms(duration_ms)

    @cached_property
    def noise(self) -> NDArray[np.float64]:
        """Many latencies over their median, as the noise has them, ascending; no stalls."""
        return np.sort(self._latencies(np.random.default_rng(0), 200_000))


def _in_modes(
    scenario: Scenario, of: Mapping[str, TrueCosts], idle_w: float
) -> tuple[InMode, ...]:
    """Returns what the device is in each mode, which no table hits exactly."""
    if not scenario.modes:
        return (InMode(PowerMode(""), of, idle_w),)
    found = []
    for mode in scenario.modes:
        random = np.random.default_rng([scenario.seed + 3, *mode.name.encode()])
        costs = {}
        for name, own in of.items():
            ms_off, mj_off = np.exp(random.normal(0, scenario.noise.own, 2)).tolist()
            longer = mode.latency * ms_off
            costs[name] = replace(
                own,
                upto_ms=tuple(ms * longer for ms in own.upto_ms),
                mj_per_ms=own.mj_per_ms * mode.power * mj_off / ms_off,
            )
        found.append(InMode(mode, costs, idle_w * mode.idle))
    return tuple(found)


@final
class SimulatedMeter:
    """A meter of a simulated device: the script says what it shows, and when it does not."""

    name = "simulated"
    covers = "the simulated device"
    estimated = False

    def __init__(self, script: ScriptedMeter, device: SimulatedDevice, seed: int) -> None:
        self.period_s = script.period_s
        self.resolution_mj = script.resolution * device.full_mj
        self._script = script
        self._device = device
        self._random = np.random.default_rng(seed)
        self._seen_mj = self._shown_mj = 0.0
        self._jumped = False

    def read(self) -> Reading:
        """Returns what it shows now.

        Raises:
            MeterError: The scenario has it stopped.
        """
        now_s, script = self._device.now_s, self._script
        if script.stops_at_s <= now_s < script.back_at_s:
            raise MeterError("the simulated meter stopped. Wait until it is back.")
        gained_mj = self._device.spent_mj - self._seen_mj
        self._seen_mj = self._device.spent_mj
        self._shown_mj += gained_mj * max(1 + script.noise * self._random.normal(), 0.0)
        if now_s >= script.jumps_at_s and not self._jumped:
            self._jumped = True
            self._shown_mj += _JUMP_CALLS * self._device.full_mj
        steps = math.floor(self._shown_mj / self.resolution_mj)
        return Reading(steps * self.resolution_mj, round(now_s * 1e9))

    def close(self) -> None:
        """Does nothing."""


def budget_of(grant: Grant, scenario: Scenario, device: SimulatedDevice) -> Budget:
    """Returns the budget that a grant, in units of the most accurate configuration, means."""
    full_w = full_power_w(scenario, device)
    left_s = scenario.duration_s - grant.at_s
    return Budget(
        latency_ms=times(grant.latency, device.full_ms),
        quantile=grant.quantile,
        hard=grant.hard,
        energy_mj=times(grant.energy, device.full_mj),
        power_w=times(grant.power, full_w),
        window_s=grant.window_s,
        energy_j=times(grant.battery, full_w * left_s),
        horizon_s=None if grant.battery is None else left_s,
    )


def full_power_w(scenario: Scenario, device: SimulatedDevice) -> float:
    """Returns the mean power if the most accurate configuration serves all arrivals."""
    arrivals = scenario.arrivals
    busy_ms = arrivals.calls * device.full_ms
    period_ms = max(arrivals.period * device.full_ms, busy_ms)
    taken_mj = arrivals.calls * device.full_mj + device.idle_w * (period_ms - busy_ms)
    return taken_mj / period_ms


def times(share: float | None, unit: float) -> float | None:
    """Returns so many units; None for no limit."""
    return None if share is None else share * unit
