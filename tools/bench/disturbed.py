"""Calls beside what disturbs them: stalls, and a process that comes and goes."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skipc.runtime import AdaptiveEngine, Budget, Bundle, decide
from skipc.runtime.governor import after_call, after_choice, first_state
from skipc.tools.bench.budgets import neighbours, random_family
from skipc.tools.bench.harness import Bar, timed_ms
from skipc.tools.bench.networks import six_of
from skipc.tools.simulate.replay import replay
from skipc.tools.simulate.scenario import Arrivals, Grant, Neighbour, Noise, Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.runtime import CallRecord, OperatingPoint
    from skipc.tools.bench.networks import Network

NAME = "disturbed"
_FAMILIES = 8
_CALLS = 1500
_NOISE = 0.05
_STALL_RATES = (0.0, 0.02, 0.05, 0.2)
_LEAST_KEPT = 0.02
"""Where the best keeps fewer calls, nothing is compared."""

_PERIOD_S = 3.0
_ROOM = 1.25
"""The budget over what the most accurate configuration takes while nothing disturbs it."""
_QUIET_CALLS = 60
_SECONDS = 90.0


def bars(place: Path) -> list[Bar]:
    """Returns the bars that are simulated: nothing is written to ``place``."""
    return [*_nothing_fits(), *_phases()]


class _Stalled(NamedTuple):
    """What came of a front under stalls: shares of calls kept, and the mean rank given up."""

    kept: float
    best_fixed: float
    given_up: float


def _nothing_fits() -> list[Bar]:
    """Compares with the best fixed configuration in hindsight, on the same latencies."""
    found = []
    for seed in range(_FAMILIES):
        points = random_family(seed)
        medians_ms = np.array([point.p50_ms for point in points])
        full_ms, fast_ms = medians_ms[0], medians_ms[-1]
        limits_ms = (0.85 * fast_ms, 1.02 * fast_ms, fast_ms + 0.4 * (full_ms - fast_ms),
                     0.98 * full_ms, 1.2 * full_ms)  # fmt: skip
        for limit_ms in limits_ms:
            quiet = None
            for rate in _STALL_RATES:
                random = np.random.default_rng(seed)
                noise = np.exp(random.normal(0, _NOISE, _CALLS))
                held_ms = 3 * full_ms * random.uniform(0.7, 1.3, _CALLS)
                held_ms[random.random(_CALLS) >= rate] = 0.0
                latencies_ms = np.outer(noise, medians_ms) + held_ms[:, None]
                ran = governed(points, Budget(latency_ms=limit_ms), latencies_ms)
                kept = latencies_ms <= limit_ms
                rank = -float(ran.mean())  # points are in the order of their rank
                quiet = rank if quiet is None else quiet
                chosen = float(kept[np.arange(_CALLS), ran].mean())
                found.append(_Stalled(chosen, float(kept.mean(axis=0).max()), quiet - rank))
    compared = [each for each in found if each.best_fixed >= _LEAST_KEPT]
    ratios = [each.kept / each.best_fixed for each in compared]
    given_up = [each.given_up / (len(points) - 1) for each in found]
    what = "simulated: 8 fronts, stalls, budgets that nothing fits"
    return [
        Bar(what, "calls kept, over the best fixed configuration, worst", min(ratios), None,
            note=f"mean {statistics.mean(ratios):.4f} of {len(ratios)}", least=0.98),
        Bar(what, "mean rank given up as stalls hit all alike", statistics.mean(given_up),
            0.01, note=f"worst {max(given_up):.3f}"),
    ]  # fmt: skip


def governed(
    points: Sequence[OperatingPoint], budget: Budget, latencies_ms: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Returns which of ``points`` the governor runs in each call, by index.

    ``latencies_ms`` is what each call would take of each point: shape (calls, points).
    """
    index = {point.configuration: at for at, point in enumerate(points)}
    state, now_s, ran = first_state(points), 0.0, []
    for row in latencies_ms.tolist():
        decision = decide(points, budget, state, now_s)
        state = after_choice(state, budget, decision, now_s)
        at = index[decision.configuration]
        now_s += row[at] / 1000
        state = after_call(state, budget, points[at], row[at], 0.0, now_s)
        ran.append(at)
    return np.array(ran)


def _phases() -> list[Bar]:
    kept, ranks = [], []
    scenario = Scenario(
        "phases", "", duration_s=60.0, arrivals=Arrivals("back-to-back"), grants=(Grant(),),
        neighbour=Neighbour(_PERIOD_S, 0.5, 2.0), noise=Noise(latency=_NOISE, own=0.0),
    )  # fmt: skip
    for seed in range(_FAMILIES):
        points = random_family(seed)
        budget = Budget(latency_ms=_ROOM * points[0].p50_ms)
        records = replay(scenario, points, budget=budget).records
        fixed = [replay(scenario, [point], budget=budget).records for point in points]
        kept.append(_kept(records) / max(map(_kept, fixed)))
        order = [point.configuration for point in points]
        resting = [
            1 - order.index(each.configuration) / (len(order) - 1)
            for each in records
            if scenario.slowdown_at(each.time_s - each.latency_ms / 1000) == 1
        ]
        ranks.append(statistics.mean(resting))
    what = "simulated: 8 fronts, slowed down twofold 1.5 s of every 3 s"
    return [
        Bar(what, "calls kept, over the best fixed configuration, worst", min(kept), None,
            note=f"mean {statistics.mean(kept):.4f}", least=0.98),
        Bar(what, "rank while it rests (cheapest 0, full 1), mean", statistics.mean(ranks),
            None, note=f"worst {min(ranks):.2f}", least=0.7),
    ]  # fmt: skip


def _kept(records: Sequence[CallRecord]) -> float:
    return statistics.mean(record.within_budget for record in records)


def beside_a_process(network: Network, folder: Path) -> list[Bar]:
    """Runs real engines while another process takes all cores for half of each period.

    The governor and each fixed configuration take turns, call by call.
    """
    bundle = Bundle.open(six_of(network, folder))
    case, names = bundle.golden_inputs()[0], [c.name for c in bundle.manifest.configurations]
    within: dict[str, list[bool]] = {name: [] for name in ("governor", *names)}
    ranks = []
    with (
        AdaptiveEngine.open(bundle.path, threads=1) as governed,
        AdaptiveEngine.open(bundle.path, threads=1) as fixed,
    ):
        fixed.pin(names[0])
        quiet_ms = [timed_ms(partial(fixed, case)) for _ in range(_QUIET_CALLS)]
        limit_ms = _ROOM * statistics.median(quiet_ms)
        governed.budget = fixed.budget = Budget(latency_ms=limit_ms)
        with neighbours(_PERIOD_S / 2) as began_s:
            end_s, turn = time.monotonic() + _SECONDS, 0
            while time.monotonic() < end_s:
                resting = (time.monotonic() - began_s) % _PERIOD_S >= _PERIOD_S / 2
                governed(case)
                assert governed.last is not None
                within["governor"].append(governed.last.within_budget)
                if resting:
                    place = names.index(governed.last.configuration)
                    ranks.append(1 - place / (len(names) - 1))
                turn += 1
                if turn % 4 == 0:  # seldom: phases are to be short for the governor, too
                    name = names[turn // 4 % len(names)]
                    fixed.pin(name)
                    fixed(case)
                    assert fixed.last is not None
                    within[name].append(fixed.last.within_budget)
    shares = {name: statistics.mean(found) for name, found in within.items() if found}
    best = max(names, key=lambda name: shares.get(name, 0.0))
    calls = len(within["governor"])
    note = f"{limit_ms:.0f} ms, {calls} calls; best fixed {best}, {shares[best]:.3f}"
    return [
        Bar(network.name, "another process 1.5 s of 3 s: calls kept, over the best fixed",
            shares["governor"] / shares[best], None, note=note, least=0.98),
        Bar(network.name, "… rank while it rests (cheapest 0, full 1)",
            statistics.mean(ranks), None, least=0.7),
    ]  # fmt: skip
