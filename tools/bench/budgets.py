"""How budgets are kept in simulation, over random families.

Each scenario is replayed for several families, as how close a family's configurations lie to a
budget is luck: shares are means over the families, bounds hold for the worst of them.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime import Budget, OperatingPoint
from skipc.runtime.governor.averages import best_mix
from skipc.tools.bench.bars import Bar
from skipc.tools.simulate.replay import replay
from skipc.tools.simulate.scenario import Arrivals, Grant, Noise, Power, Scenario
from skipc.tools.simulate.scenario_file import find_scenario, shipped_scenarios

if TYPE_CHECKING:
    from pathlib import Path

NAME = "budgets"
_FAMILIES = 8
_FULL_MS = 30.0


def bars(place: Path) -> list[Bar]:
    """Returns the bars of the governor, all simulated: nothing is written to ``place``."""
    found = []
    for name in shipped_scenarios():
        found += _scenario_bars(name)
    return [*found, _mixing(), _switches()]


def random_family(seed: int, count: int = 6) -> tuple[OperatingPoint, ...]:
    """Returns a made-up family: latencies, accuracies and energies that fall together."""
    random = np.random.default_rng(seed)
    shares = np.sort(np.append(random.uniform(0.3, 0.95, count - 1), 1.0))[::-1]
    drops = random.exponential(0.01, count - 1) * np.linspace(0.3, 2.0, count - 1)
    ranks = 0.95 - np.append(0.0, np.cumsum(np.sort(drops)))
    p95 = 1 + random.uniform(0.01, 0.05, count)
    p99 = p95 * (1 + random.uniform(0.01, 0.05, count))
    energies_mj = 10 * _FULL_MS * shares ** random.uniform(0.8, 1.3, count)
    return tuple(
        OperatingPoint(
            f"skip{index}",
            rank=float(ranks[index]),
            p50_ms=float(_FULL_MS * shares[index]),
            p95_ms=float(_FULL_MS * shares[index] * p95[index]),
            p99_ms=float(_FULL_MS * shares[index] * p99[index]),
            energy_mj=float(energies_mj[index]),
        )
        for index in range(count)
    )


def _scenario_bars(name: str) -> list[Bar]:
    scenario = find_scenario(name)
    replays = [
        replay(replace(scenario, seed=seed), random_family(seed)) for seed in range(_FAMILIES)
    ]
    what, found = f"simulated: {name}", []
    if any(grant.latency is not None for grant in scenario.grants):
        within = [each.within_budget for each in replays]
        found.append(
            Bar(what, "calls within a feasible latency budget, quantile 0.99, worst family",
                min(within), None, "x",
                f"mean {statistics.mean(within):.4f}; of all calls, adaptation included, worst"
                f" {min(each.within_budget_of_all_calls for each in replays):.4f}", least=0.99)
        )  # fmt: skip
    gains = [each.gain for each in replays]
    found.append(
        Bar(what, "gain over the cheapest, of the oracle's, mean of the families",
            statistics.mean(gains), None, "x", f"worst {min(gains):.3f}", least=0.97)
    )  # fmt: skip
    averages = [each.average for each in replays if each.average is not None]
    if averages:
        ratios = [each.taken / each.granted for each in averages]
        off = max(ratios, key=lambda ratio: abs(ratio - 1))
        kind = averages[0].kind
        found.append(
            Bar(what, f"{kind} taken, off what was granted, worst family", abs(off - 1), 0.02,
                "x", f"{off:.4f} of it")
        )  # fmt: skip
        if kind != "battery":  # whose burst is the battery itself
            found.append(
                Bar(what, f"{kind} taken beyond what was granted, of the burst, worst moment",
                    max(each.largest_overdraft_of_burst for each in averages), 1.0, "x",
                    "calls are told from pauses by an idle power 3 % off"
                    if kind == "energy" else "")
            )  # fmt: skip
    speed = sum(r.simulated_s for r in replays) / sum(r.taken_s for r in replays)
    found.append(Bar(what, "faster than real time, calls of 30 ms", speed, None))
    return found


def _mixing() -> Bar:
    """The accuracy of mixing over random fronts, against the hull and one configuration."""
    below_alone, off_hull = 0.0, 0.0
    for seed in range(30):
        points = random_family(seed)
        energies_mj = [point.energy_mj for point in points]
        ranks = [point.rank for point in points]
        granted = float(
            np.random.default_rng(seed).uniform(min(energies_mj), max(energies_mj))
        )
        scenario = Scenario(
            "mixing", "", duration_s=60.0, seed=seed,
            arrivals=Arrivals("back-to-back"), grants=(Grant(),),
            noise=Noise(latency=0.0, own=0.0, energy=0.0), power=Power(),
        )  # fmt: skip
        found = replay(scenario, points, budget=Budget(energy_mj=granted))
        mix = best_mix([mj - granted for mj in energies_mj], ranks)
        assert mix is not None
        hull = ranks[mix.low] + mix.share * (ranks[mix.high] - ranks[mix.low])
        alone = max(r for r, mj in zip(ranks, energies_mj, strict=True) if mj <= granted)
        spread = max(ranks) - min(ranks)
        below_alone = max(below_alone, (alone - found.mean_rank) / spread)
        off_hull = max(off_hull, abs(found.mean_rank - hull) / spread)
    worse = max(below_alone, 0.0)
    note = f"below the best single configuration by {worse:.4f} at most"
    what = "accuracy of mixing, off the concave hull, worst"
    return Bar("simulated: 30 fronts", what, off_hull, 0.01, "x", note)


def _switches() -> Bar:
    """Switches under a constant budget, where latency scatters by 10 %."""
    rates = []
    for seed in range(20):
        points = random_family(seed)
        scenario = Scenario(
            "constant", "", duration_s=300.0, seed=seed,
            arrivals=Arrivals("periodic", 1.5),
            grants=(Grant(latency=float(np.random.default_rng(seed).uniform(0.6, 1.4))),),
            noise=Noise(latency=0.1),
        )  # fmt: skip
        rates.append(replay(scenario, points).switches_per_s)
    return Bar(
        "simulated: 20 fronts", "switches per second, constant budget, noise of 10 %, mean",
        statistics.mean(rates), 0.2, "/s", f"worst {max(rates):.2f} /s",
    )  # fmt: skip
