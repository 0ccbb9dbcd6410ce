"""Power modes chosen along with configurations, simulated: energy, and calls beside changes.

The modes are those of a Jetson AGX Xavier of 30, 15 and 10 W: latencies go by the highest
clock of its GPU in each (900, 670 and 520 MHz by NVIDIA's table), powers by its name. What is
asked changes, so that each of them is the best for about a third of the time: in one scenario
the latency that is granted, in the other how hot the room is. Noise of 5 %, tables 2 % off, a
change takes 0.3 s. The oracle knows the device, changes at once and at no cost.

The best fixed mode is the one of least energy among those in which the governor of
configurations alone comes to the same accuracy, within 1 % of the front's, and as many calls
in time.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from skipc.tools.bench.budgets import random_family
from skipc.tools.bench.harness import Bar
from skipc.tools.simulate.replay import replay
from skipc.tools.simulate.scenario import (
    Arrivals,
    Change,
    Grant,
    Noise,
    Power,
    Scenario,
    find_scenario,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skipc.tools.simulate.tally import Replay

NAME = "modes"
_FRONTS = 8
_PHASE_S = 40.0
_SAME_GAIN = 0.01
_LATE = 0.005


class _Found(NamedTuple):
    """What came of one front: energies over the best fixed mode's and the oracle's."""

    over_fixed: float
    over_oracle: float
    replay: Replay


def scenarios() -> tuple[Scenario, ...]:
    """Returns the scenarios in which another mode is the best from time to time."""
    modes = find_scenario("warm-room").modes
    common = Scenario(
        "", "", duration_s=9 * _PHASE_S, grants=(Grant(latency=2.2),), modes=modes,
        arrivals=Arrivals("periodic", 2.5), noise=Noise(latency=0.05), power=Power(idle=0.2),
    )  # fmt: skip
    granted = (1.25, 2.3, 1.75, 2.3, 1.25, 1.75, 2.3, 1.75, 1.25)
    slowdowns = (1.0, 1.25, 1.6, 1.25, 1.0, 1.6, 1.0, 1.25, 1.6)
    return (
        replace(
            common,
            name="granted latency changes",
            grants=tuple(
                Grant(at_s=at * _PHASE_S, latency=latency)
                for at, latency in enumerate(granted)
            ),
        ),
        replace(
            common,
            name="the room warms up and cools down",
            slowdowns=tuple(
                Change(at * _PHASE_S, factor, over_s=15.0)
                for at, factor in enumerate(slowdowns)
                if at
            ),
        ),
    )


def bars(place: Path) -> list[Bar]:
    """Returns the bars of modes, all simulated: nothing is written to ``place``."""
    del place
    found = []
    for scenario in scenarios():
        found += _bars(scenario)
    return [*found, *_warm_room()]


def _bars(scenario: Scenario) -> list[Bar]:
    fronts = [_front(replace(scenario, seed=seed), seed) for seed in range(_FRONTS)]
    what = f"simulated: {_FRONTS} fronts, {scenario.name}"
    fixed = [each.over_fixed for each in fronts]
    oracle = [each.over_oracle for each in fronts]
    gains = [each.replay.gain for each in fronts]
    within = min(each.replay.within_budget for each in fronts)
    return [
        Bar(what, "energy with modes, over the best fixed mode, mean", statistics.mean(fixed),
            0.8, note=f"worst {max(fixed):.3f}; calls in time, worst {within:.4f}"),
        Bar(what, "energy with modes, over an oracle's, mean", statistics.mean(oracle), 1.05,
            note=f"worst {max(oracle):.3f}; of its gain in accuracy {min(gains):.3f}, worst"),
        _at_changes(what, [each.replay for each in fronts]),
    ]  # fmt: skip


def _warm_room() -> list[Bar]:
    """Replays the shipped scenario, which limits the power, too; it may take less of it."""
    scenario, what = find_scenario("warm-room"), "simulated: warm-room"
    replays = [
        replay(replace(scenario, seed=seed), random_family(seed)) for seed in range(_FRONTS)
    ]
    within = [each.within_budget for each in replays]
    gains = [each.gain for each in replays]
    powers = [each.average.taken / each.average.granted for each in replays if each.average]
    return [
        Bar(what, "calls within a feasible latency budget, quantile 0.99, worst front",
            min(within), None, note=f"mean {statistics.mean(within):.4f}", least=0.99),
        Bar(what, "gain over the cheapest, of the oracle's, mean", statistics.mean(gains),
            None, note=f"worst {min(gains):.3f}", least=0.97),
        Bar(what, "power taken, over what was granted, worst front", max(powers), 1.02,
            note=f"mean {statistics.mean(powers):.3f}"),
        _at_changes(what, replays),
    ]  # fmt: skip


def _at_changes(what: str, replays: Sequence[Replay]) -> Bar:
    calls = sum(each.calls_beside_changes for each in replays)
    late = sum(each.late_beside_changes for each in replays)
    note = f"{late} of {calls}, up to 20 after each"
    return Bar(what, "late calls at changes of mode", late / max(calls, 1), 0.01, note=note)


def _front(scenario: Scenario, seed: int) -> _Found:
    points = random_family(seed)
    found = replay(scenario, points)
    alone = [replay(replace(scenario, modes=(mode,)), points) for mode in scenario.modes]
    spread = max(point.rank for point in points) - min(point.rank for point in points)
    equal = [
        each
        for each in alone
        if each.mean_rank >= found.mean_rank - _SAME_GAIN * spread
        and each.within_budget >= found.within_budget - _LATE
    ]
    best = min(_call_mj(each) for each in equal) if equal else float("nan")
    return _Found(_call_mj(found) / best, found.spent_mj / found.oracle_mj, found)


def _call_mj(found: Replay) -> float:
    return found.spent_mj / found.calls
