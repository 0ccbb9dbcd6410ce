from __future__ import annotations

import logging
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from skipc.runtime import Budget, FakeClock, OperatingPoint
from skipc.runtime.errors import MeterError
from skipc.tools.simulate.device import SimulatedDevice, SimulatedMeter
from skipc.tools.simulate.replay import LEAST_MS, replay, scaled, scaled_budget, slow_enough
from skipc.tools.simulate.scenario import (
    Arrivals,
    Change,
    Grant,
    Neighbour,
    Noise,
    PowerMode,
    Scenario,
    ScriptedMeter,
)
from skipc.tools.simulate.tally import Oracle

POINTS = tuple(
    OperatingPoint(name, rank, ms, 1.03 * ms, 1.06 * ms, energy_mj=mj)
    for name, rank, ms, mj in [
        ("full", 0.95, 30.0, 300.0),
        ("mid", 0.93, 20.0, 190.0),
        ("fast", 0.90, 12.0, 110.0),
    ]
)
QUIET = Noise(latency=0.0, own=0.0, energy=0.0)
PLAIN = Scenario(
    name="plain",
    description="",
    duration_s=60.0,
    seed=3,
    arrivals=Arrivals("periodic", 1.5),
    grants=(Grant(latency=1.3),),
)


def test_nothing_in_the_way_runs_the_most_accurate():
    found = replay(replace(PLAIN, noise=QUIET), POINTS)
    assert found.calls == 1334  # every 45 ms for 60 s, at both ends
    assert (found.within_budget, found.switches_per_s) == (1.0, 0.0)
    assert found.gain == pytest.approx(1.0)
    assert found.simulated_s == pytest.approx(60, abs=0.05)
    assert found.average is None


def test_the_same_seed_gives_the_same_calls():
    noisy = replace(PLAIN, neighbour=Neighbour(10, 0.5, 1.8))
    one, same, other = (replay(replace(noisy, seed=seed), POINTS) for seed in (1, 1, 2))
    assert one.records == same.records
    assert one.records != other.records


def test_a_slow_device_is_followed_and_the_oracle_counts_what_it_could_have_had():
    slow = replace(PLAIN, slowdowns=(Change(20, 1.6), Change(40, 1.0)))
    found = replay(slow, POINTS)
    ran = dict.fromkeys(("full", "mid", "fast"), 0)
    for record in found.records:
        ran[record.configuration] += 1
    assert ran["mid"] > 300
    assert ran["full"] > 700
    assert found.within_budget > 0.99
    assert 0.95 < found.gain <= 1.001


def test_calls_whose_budget_nobody_could_meet_do_not_count():
    found = replay(replace(PLAIN, grants=(Grant(latency=0.2),)), POINTS)
    assert found.counted_calls == 0
    assert found.stats.infeasible_calls == found.calls


def test_back_to_back_and_bursts_arrive_as_they_say():
    busy = replay(replace(PLAIN, noise=QUIET, arrivals=Arrivals("back-to-back")), POINTS)
    assert busy.calls == 2000
    bursts = replay(replace(PLAIN, noise=QUIET, arrivals=Arrivals("bursts", 20, 5)), POINTS)
    assert bursts.calls == pytest.approx(500, abs=5)
    times_s = [record.time_s for record in bursts.records[:6]]
    gaps_s = [late - early for early, late in pairwise(times_s)]
    assert gaps_s == pytest.approx([0.03] * 4 + [0.48])


@pytest.mark.parametrize(
    ("grant", "kind"),
    [
        (Grant(energy=0.8), "energy"),
        (Grant(power=0.85, window_s=5), "power"),
        (Grant(battery=0.85), "battery"),
    ],
)
def test_averages_are_kept_and_counted(grant, kind):
    scenario = replace(PLAIN, grants=(grant,), meter=ScriptedMeter(), duration_s=300.0)
    found = replay(scenario, POINTS)
    assert found.average.kind == kind
    assert found.average.taken == pytest.approx(found.average.granted, rel=0.02)
    assert found.gain > 0.95


def test_a_budget_of_ones_own_takes_the_place_of_the_grants():
    found = replay(PLAIN, POINTS, budget=Budget(latency_ms=15.0))
    assert {record.configuration for record in found.records} == {"fast"}
    assert {record.budget for record in found.records} == {Budget(latency_ms=15.0)}


def test_what_happens_in_a_simulation_is_not_logged(caplog):
    scenario = replace(PLAIN, grants=(Grant(latency=0.2),))
    replay(scenario, POINTS)
    assert not caplog.records
    logging.getLogger("skipc.runtime.x").warning("said")
    assert len(caplog.records) == 1


def test_the_meter_shows_steps_and_its_faults():
    clock = FakeClock()
    device = SimulatedDevice(PLAIN, POINTS, clock)
    script = ScriptedMeter(resolution=0.5, noise=0.0, stops_at_s=1, back_at_s=2, jumps_at_s=3)
    meter = SimulatedMeter(script, device, seed=0)
    device.stage_ms("full", 0)
    shown = meter.read().energy_mj
    assert shown % meter.resolution_mj == 0
    assert shown <= device.spent_mj < shown + meter.resolution_mj
    clock.advance_ms(1500)
    with pytest.raises(MeterError, match="stopped"):
        meter.read()
    clock.advance_ms(1000)
    assert meter.read().energy_mj == shown
    clock.advance_ms(1000)
    assert meter.read().energy_mj > 900 * device.full_mj


def test_the_oracle_is_no_worse_than_any_choice_that_fits():
    device = SimulatedDevice(replace(PLAIN, noise=QUIET), POINTS, FakeClock())
    oracle = Oracle(POINTS, device, period_ms=45.0)
    assert oracle.best(Budget(latency_ms=25.0), [1.0]).rank == 0.93
    assert oracle.best(Budget(latency_ms=25.0), [2.0]).rank == 0.90
    assert not oracle.best(Budget(latency_ms=25.0), [3.0]).feasible
    half = oracle.best(Budget(energy_mj=245.0), [1.0])
    assert half.rank == pytest.approx(0.94)
    assert not oracle.best(Budget(energy_mj=100.0), [1.0]).feasible


def test_fast_networks_are_slowed_down():
    fast = scaled(POINTS, 0.001)
    factor = slow_enough(fast)
    assert factor == pytest.approx(LEAST_MS / 0.03)
    slow = scaled(fast, factor)
    assert slow[0].p50_ms == pytest.approx(LEAST_MS)
    assert slow[2].p99_ms / slow[0].p50_ms == pytest.approx(POINTS[2].p99_ms / 30.0)
    assert slow_enough(POINTS) == 1.0
    budget = scaled_budget(Budget(latency_ms=2.0, energy_mj=3.0, power_w=5.0), 10.0)
    assert budget == Budget(latency_ms=20.0, energy_mj=30.0, power_w=5.0)


ROUTE = OperatingPoint(
    "route",
    0.94,
    *(12.0, 30.0, 32.0),
    energy_mj=150.0,
    upto_ms=(10.0, 20.0, 30.0),
    upto_p99_ms=(10.6, 21.2, 31.8),
)
STOPS = {"route": (0.6, 0.25, 0.15)}


def stages_of(records):
    """Returns the share of the calls that each of three stages answered."""
    counts = np.bincount([record.stage for record in records], minlength=3)
    return counts / len(records)


def test_samples_are_answered_where_they_were_and_later_when_they_are_harder():
    found = replay(replace(PLAIN, duration_s=100.0), [ROUTE], stops=STOPS)
    assert found.stage_shares == pytest.approx(STOPS["route"], abs=0.03)
    assert {record.stopped_by for record in found.records} == {"test", "end"}
    hard = replace(PLAIN, duration_s=200.0, difficulties=(Change(100, 3.0),))
    records = replay(hard, [ROUTE], stops=STOPS).records
    assert stages_of([r for r in records if r.time_s < 100]) == pytest.approx(
        STOPS["route"], abs=0.03
    )
    # What is answered up to an exit, 0.6 and 0.85, to the third power.
    shares = 0.6**3, 0.85**3 - 0.6**3, 1 - 0.85**3
    assert stages_of([r for r in records if r.time_s > 100]) == pytest.approx(shares, abs=0.03)


def test_what_a_stage_takes_is_of_that_stage():
    found = replay(replace(PLAIN, noise=QUIET), [ROUTE], stops=STOPS)
    for record in found.records:
        assert record.latency_ms == pytest.approx(ROUTE.upto_ms[record.stage])
    twice = scaled([ROUTE], 2.0)[0]
    assert twice.upto_ms == (20.0, 40.0, 60.0)
    assert twice.upto_p99_ms == (21.2, 42.4, 63.6)


def test_a_hard_deadline_cuts_and_is_kept():
    grants = (Grant(latency=0.8, hard=True),)
    found = replay(replace(PLAIN, duration_s=100.0, grants=grants), [ROUTE], stops=STOPS)
    cut = [record for record in found.records if record.stopped_by == "deadline"]
    assert 0.1 < len(cut) / found.calls < 0.2  # those that would have gone to the end
    assert found.cut_calls == len(cut)
    # Once it knows how the latencies scatter.
    assert {record.stage for record in cut if record.time_s > 10} == {1}
    assert found.within_budget == 1.0
    late = replace(PLAIN, duration_s=20.0, grants=(Grant(latency=0.8),))
    assert replay(late, [ROUTE], stops=STOPS).cut_calls == 0


def test_the_oracle_knows_how_long_hard_samples_take():
    clock = FakeClock()
    device = SimulatedDevice(replace(PLAIN, noise=QUIET), [ROUTE], clock, STOPS)
    oracle = Oracle([ROUTE], device, period_ms=0.0)
    easy = Budget(latency_ms=21.0, quantile=0.8)
    assert oracle.best(easy, [1.0], 1.0).feasible
    assert not oracle.best(easy, [1.0], 3.0).feasible
    assert oracle.best(replace(easy, hard=True), [1.0], 3.0).feasible
    assert not oracle.best(replace(easy, hard=True), [2.2], 3.0).feasible


MODES = (PowerMode("fast"), PowerMode("slow", latency=1.5, power=0.4, idle=0.8))
IN_MODES = replace(
    PLAIN,
    duration_s=30.0,
    modes=MODES,
    arrivals=Arrivals("periodic", 2.5),
    grants=(Grant(latency=1.3), Grant(at_s=10.0, latency=2.0), Grant(at_s=20.0, latency=1.3)),
)


def test_the_mode_changes_with_what_is_granted_and_the_oracle_knows_both():
    found = replay(IN_MODES, POINTS)
    modes = [record.mode for record in found.records]
    assert [mode for mode, before in pairwise([*modes, ""]) if mode != before][:3] == [
        *("fast", "slow", "fast")
    ]
    assert found.stats.modes.changes == 2
    assert found.within_budget == 1.0
    assert found.late_beside_changes == 0 < found.calls_beside_changes < 60
    assert 1.0 < found.spent_mj / found.oracle_mj < 1.1
    fixed = replay(replace(IN_MODES, modes=MODES[:1]), POINTS)
    assert found.spent_mj < 0.9 * fixed.spent_mj
    assert (found.mean_rank, fixed.mean_rank) == pytest.approx((0.95, 0.95))


def test_within_a_change_calls_take_the_longer_time_at_the_higher_power():
    scenario = replace(IN_MODES, noise=QUIET, slowdowns=(Change(5.0, 2.0, modes=("fast",)),))
    clock = FakeClock()
    device = SimulatedDevice(scenario, POINTS, clock)
    assert device.stage_ms("full", 0) == pytest.approx(30.0)
    assert device.change_mode("slow") == pytest.approx(0.3)
    idle_w, before_mj = device.idle_w, device.spent_mj
    assert device.stage_ms("full", 0) == pytest.approx(45.0)
    assert device.spent_mj - before_mj == pytest.approx(450.0)
    clock.advance_ms(301)
    before_mj = device.spent_mj
    assert device.stage_ms("full", 0) == pytest.approx(45.0)
    assert device.spent_mj - before_mj == pytest.approx(180.0)
    assert device.idle_w == pytest.approx(0.8 * idle_w)
    clock.advance_ms(6000)  # only the fast mode becomes slower
    assert device.stage_ms("full", 0) == pytest.approx(45.0)
    device.change_mode("fast")
    assert device.stage_ms("full", 0) == pytest.approx(60.0)


def test_the_oracle_takes_the_cheapest_mode_that_is_as_accurate():
    device = SimulatedDevice(replace(IN_MODES, noise=QUIET), POINTS, FakeClock())
    oracle = Oracle(POINTS, device, period_ms=75.0)
    slow_mj = 0.6 * 300.0 + 0.8 * 3.0 * 30.0
    assert oracle.best(Budget(latency_ms=50.0), [1.0, 1.0])[1:] == (
        True,
        pytest.approx(slow_mj),
    )
    fast_mj = 300.0 + 3.0 * 45.0
    assert oracle.best(Budget(latency_ms=40.0), [1.0, 1.0])[2] == pytest.approx(fast_mj)
    assert oracle.best(Budget(latency_ms=50.0), [1.0, 1.2])[2] == pytest.approx(fast_mj)
    no_limit = Oracle(POINTS, device, period_ms=40.0).best(Budget(), [1.0, 1.0])
    assert no_limit[2] == pytest.approx(300.0 + 3.0 * 10.0)  # the slow one falls behind
