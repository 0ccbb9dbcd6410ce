"""How budgets are kept: in simulation, over random families, and beside another process.

Each scenario is replayed for several families, as how close a family's configurations lie to a
budget is luck: shares are means over the families, bounds hold for the worst of them.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime import AdaptiveEngine, Budget, Bundle, OperatingPoint
from skipc.runtime.governor.averages import best_mix
from skipc.tools.bench.harness import Bar, timed_ms
from skipc.tools.bench.networks import six_of
from skipc.tools.simulate.replay import replay
from skipc.tools.simulate.scenario import (
    Arrivals,
    Grant,
    Noise,
    Power,
    Scenario,
    find_scenario,
    shipped_scenarios,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from skipc.tools.bench.networks import Network

NAME = "budgets"
_FAMILIES = 8
_FULL_MS = 30.0

_SECONDS = 120.0
HALF_PERIOD_S = 10.0
_QUIET_CALLS = 60
_QUANTILE = 0.95
_ROOM = 1.1
"""The budget over what the most accurate configuration takes while nothing disturbs it."""


def bars(place: Path) -> list[Bar]:
    """Returns the bars of the governor, all simulated: nothing is written to ``place``."""
    found = []
    for name in shipped_scenarios():
        if not find_scenario(name).modes:  # which are a part of their own
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


def contention(network: Network, folder: Path) -> list[Bar]:
    """Returns how many calls were within a budget while another process takes the cores.

    Three policies take turns, call by call, on the same engines: the governor; the table
    alone, which does not learn; and always the most accurate configuration.
    """
    bundle = Bundle.open(six_of(network, folder))
    case, best = bundle.golden_inputs()[0], bundle.manifest.configurations[0].name
    times_ms: dict[str, list[float]] = {"governor": [], "table": [], best: []}
    chosen: Counter[str] = Counter()
    with (
        AdaptiveEngine.open(bundle.path, threads=1) as governed,
        AdaptiveEngine.open(bundle.path, threads=1) as fixed,
    ):
        fixed.pin(best)
        quiet_ms = [timed_ms(partial(fixed, case)) for _ in range(_QUIET_CALLS)]
        limit_ms = _ROOM * statistics.quantiles(quiet_ms, n=20)[-1]
        governed.budget = Budget(latency_ms=limit_ms, quantile=_QUANTILE)
        points = fixed.stats().configurations
        within = [point for point in points if point.p95_ms <= limit_ms] or points[-1:]
        table = max(within, key=lambda point: point.rank).configuration
        with neighbours(HALF_PERIOD_S):
            end_s = time.perf_counter() + _SECONDS
            while time.perf_counter() < end_s:
                times_ms["governor"].append(timed_ms(partial(governed, case)))
                assert governed.last is not None
                chosen[governed.last.configuration] += 1
                for policy, configuration in (("table", table), (best, best)):
                    fixed.pin(configuration)
                    times_ms[policy].append(timed_ms(partial(fixed, case)))
    share = {
        policy: sum(ms <= limit_ms for ms in found) / len(found)
        for policy, found in times_ms.items()
    }
    ran = " ".join(f"{name} {count}" for name, count in chosen.items())
    note = f"{limit_ms:.0f} ms at quantile {_QUANTILE:g}; the governor ran {ran}"
    what = "calls within the budget while another process takes the cores half of the time"
    return [
        Bar(network.name, what, share["governor"], None, "x", note, least=0.97),
        Bar(network.name, f"… by the table alone: {table}", share["table"], None),
        Bar(network.name, f"… always {best}", share[best], None),
    ]


@contextmanager
def neighbours(half_period_s: float) -> Iterator[float]:
    """Disturbs every core, by a process each, for half of each period until the block ends.

    Yields when the first period began, on the monotonic clock; it begins with the disturbance.
    """
    context, began_s = multiprocessing.get_context("spawn"), time.monotonic()
    stop = context.Event()
    processes = [
        context.Process(target=_disturb, args=(stop, began_s, half_period_s), daemon=True)
        for _ in range(os.cpu_count() or 1)
    ]
    for process in processes:
        process.start()
    try:
        yield began_s
    finally:
        stop.set()
        for process in processes:
            process.join()


def _disturb(stop: Event, began_s: float, half_period_s: float) -> None:
    """Takes a core for half of each period, in step with the others."""
    while not stop.is_set():
        if (time.monotonic() - began_s) % (2 * half_period_s) < half_period_s:
            sum(range(200_000))
        else:
            time.sleep(0.01)
