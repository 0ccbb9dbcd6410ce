from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from skipc.runtime import Budget, OperatingPoint, decide
from skipc.runtime.governor import (
    Spent,
    after_call,
    after_choice,
    after_reading,
    before_choice,
    first_state,
)
from skipc.runtime.governor.account import BURST_CALLS
from skipc.runtime.governor.averages import best_mix
from tests.runtime.governor.families import FAMILY

BY_NAME = {point.configuration: point for point in FAMILY}


class _Device:
    """Calls of a device that takes what the table says, at a pace of its own."""

    def __init__(self, points=FAMILY, pause_s=0.0, idle_w=0.0, factor=1.0, metered=False):
        self.points = {point.configuration: point for point in points}
        self.state = first_state(points, metered=metered)
        self.pause_s, self.idle_w, self.factor = pause_s, idle_w, factor
        self.now_s, self.spent_mj, self.idle_mj = 0.0, 0.0, 0.0
        self.ran, self.decisions, self.worst_mj = [], [], 0.0

    def run(self, budget, calls):
        for _ in range(calls):
            self.idle_mj += self.pause_s * self.idle_w * 1000
            self.now_s += self.pause_s
            idle_s = self.pause_s
            self.state = before_choice(self.state, budget, self.now_s, idle_s)
            points = tuple(self.points.values())
            decision = decide(points, budget, self.state, self.now_s)
            self.state = after_choice(self.state, budget, decision, self.now_s)
            point = self.points[decision.configuration]
            self.now_s += point.p50_ms / 1000
            true_mj = point.energy_mj * self.factor
            self.spent_mj += true_mj
            expected_mj = self.state.energy.call_mj[point.configuration]
            self.state = after_call(
                self.state, budget, point, point.p50_ms, expected_mj, self.now_s
            )
            if self.factor != 1.0:
                idle_mj = idle_s * self.state.energy.idle_w * 1000
                spent = Spent({point.configuration: expected_mj}, idle_mj)
                measured_mj = true_mj + self.pause_s * self.idle_w * 1000
                self.state = after_reading(self.state, spent, measured_mj)
            self.ran.append(decision.configuration)
            self.decisions.append(decision)
        return self

    @property
    def mean_mj(self):
        return self.spent_mj / len(self.ran)

    @property
    def mean_rank(self):
        return float(np.mean([self.points[name].rank for name in self.ran]))

    @property
    def mean_w(self):
        return (self.spent_mj + self.idle_mj) / self.now_s / 1000


def test_an_energy_between_two_configurations_is_met_by_alternating():
    device = _Device().run(Budget(energy_mj=65.0), 1000)
    assert device.mean_mj == pytest.approx(65.0, rel=0.002)
    assert device.mean_mj <= 65.0
    assert set(device.ran) == {"full", "mid"}
    middle = "".join(name[0] for name in device.ran[100:130])
    assert middle in "fm" * 30  # as evenly as can be


def test_shares_that_are_not_even_are_spread_as_evenly_as_can_be():
    device = _Device().run(Budget(energy_mj=57.5), 400)  # a quarter of the calls
    gaps = np.diff([index for index, name in enumerate(device.ran) if name == "full"])
    assert set(gaps[2:]) == {4}


def test_the_decision_says_what_binds_and_with_what_it_alternates():
    device = _Device().run(Budget(energy_mj=65.0), 10)
    decision = device.decisions[-1]
    assert (decision.binding, decision.limit) == ("energy", 65.0)
    assert {decision.configuration, decision.partner} == {"full", "mid"}
    assert f"alternates with {decision.partner!r} to meet the energy" in decision.reason
    assert decision.feasible


def test_an_energy_that_nothing_meets_runs_the_cheapest_and_says_so():
    device = _Device().run(Budget(energy_mj=10.0), 10)
    decision = device.decisions[-1]
    assert (decision.configuration, decision.feasible) == ("fast", False)
    assert "nothing meets the energy budget of 10 mJ" in decision.reason


def test_an_energy_that_everything_meets_limits_nothing():
    device = _Device().run(Budget(energy_mj=100.0), 10)
    assert set(device.ran) == {"full"}
    assert device.decisions[-1].binding == ""


@pytest.mark.parametrize(
    ("pause_s", "share"), [(0.0, 0.1), (0.0, 0.9), (0.004, 0.5), (0.02, 0.1), (0.02, 0.9)]
)
def test_power_is_met_at_any_pace(pause_s, share):
    idle_w = 2.0
    points = tuple(
        OperatingPoint(name, rank, ms, ms, ms, energy_mj=mj)
        for name, rank, ms, mj in [
            ("full", 0.95, 8, 120),
            ("mid", 0.9, 5, 50),
            ("fast", 0.8, 4, 20),
        ]
    )

    def alone_w(point):
        taken_mj = point.energy_mj + idle_w * pause_s * 1000
        return taken_mj / (point.p50_ms + pause_s * 1000)

    powers_w = sorted(alone_w(point) for point in points)
    granted_w = powers_w[0] + share * (powers_w[-1] - powers_w[0])
    device = _Device(points, pause_s=pause_s, idle_w=idle_w, factor=1.0001, metered=True)
    device.run(Budget(power_w=granted_w, window_s=1.0), 3000)
    granted_mj = granted_w * device.now_s * 1000
    taken_mj = device.spent_mj + device.idle_mj
    assert taken_mj <= granted_mj + granted_w * 1.0 * 1000
    assert taken_mj == pytest.approx(granted_mj, rel=0.02)


def test_a_battery_lasts_and_is_used_up():
    device = _Device(pause_s=0.01)
    device.run(Budget(energy_j=50.0, horizon_s=15.0), 10)
    while device.now_s < 15.0:
        device.run(Budget(energy_j=50.0, horizon_s=15.0), 1)
    assert device.spent_mj == pytest.approx(50_000, rel=0.01)
    assert device.spent_mj <= 50_000 * 1.002
    device.run(Budget(energy_j=50.0, horizon_s=15.0), 10)
    assert set(device.ran[-5:]) == {"full"}  # its time is over


def test_what_a_battery_saved_is_spent_later():
    device, budget = _Device(pause_s=0.01), Budget(energy_j=50.0, horizon_s=20.0)
    device.run(budget, 300)
    device.now_s += 5.0  # nothing is asked for a while
    while device.now_s < 20.0:
        device.run(budget, 1)
    assert device.spent_mj == pytest.approx(50_000, rel=0.02)


def test_what_was_saved_is_bounded():
    device, budget = _Device(pause_s=0.004), Budget(power_w=6.0, window_s=0.5)
    device.run(budget, 100)
    device.now_s += 3600.0
    before_mj, before_s = device.spent_mj, device.now_s
    worst_mj = 0.0
    for _ in range(2000):
        device.run(budget, 1)
        over_mj = device.spent_mj - before_mj - 6.0 * (device.now_s - before_s) * 1000
        worst_mj = max(worst_mj, over_mj)
    assert worst_mj <= 6.0 * 0.5 * 1000 + 80.0


def test_latency_comes_first_and_the_tightest_of_several_binds():
    device = _Device().run(Budget(latency_ms=7.5, energy_mj=65.0), 100)
    assert set(device.ran) == {"mid"}
    assert device.decisions[-1].binding == "latency"
    device = _Device().run(Budget(latency_ms=7.5, energy_mj=35.0), 100)
    assert set(device.ran) == {"mid", "fast"}
    assert device.decisions[-1].binding == "energy"
    device = _Device(pause_s=0.01).run(Budget(energy_mj=79.0, power_w=2.0), 1000)
    assert device.decisions[-1].binding == "power"


def test_a_floor_holds_under_an_average():
    device = _Device().run(Budget(energy_mj=30.0, min_accuracy=0.92), 50)
    assert set(device.ran) == {"mid"}
    assert not device.decisions[-1].feasible


def test_a_changed_average_keeps_what_was_saved_or_is_owed_and_the_pace():
    device = _Device().run(Budget(energy_mj=65.0), 7)
    account = device.state.account
    kept = before_choice(device.state, Budget(latency_ms=50, energy_mj=65.0), device.now_s, 0)
    assert kept.account.energy_mj == account.energy_mj
    other = before_choice(device.state, Budget(energy_mj=66.0), device.now_s, 0)
    assert other.account.energy_mj == account.energy_mj
    power = before_choice(device.state, Budget(power_w=5.0), device.now_s, 0)
    assert (power.account.energy_mj, power.account.power_mj) == (0.0, 0.0)
    assert before_choice(device.state, Budget(), device.now_s, 0).account is None
    powered = _Device().run(Budget(power_w=5.0), 7)
    before = powered.state.account.period_s
    other = before_choice(powered.state, Budget(power_w=6.0), powered.now_s, 0)
    assert before > 0
    assert other.account.period_s == pytest.approx(before, rel=0.2)


def test_a_meter_corrects_what_the_table_gets_wrong():
    device = _Device(factor=1.3).run(Budget(energy_mj=65.0), 3000)
    assert device.mean_mj == pytest.approx(65.0, rel=0.01)
    assert device.state.energy.call_mj["mid"] == pytest.approx(65.0, rel=0.05)


def test_unknown_energies_are_learnt_from_the_meter():
    points = tuple(
        OperatingPoint(p.configuration, p.rank, p.p50_ms, p.p95_ms, p.p99_ms) for p in FAMILY
    )
    state = first_state(points, metered=True)
    state = after_reading(state, Spent({"full": state.energy.call_mj["full"]}, 0.0), 96.0)
    assert state.energy.call_mj == pytest.approx({"full": 96, "mid": 60, "fast": 24}, rel=1e-3)
    assert first_state(points).energy.call_mj == {}


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.data())
def test_mixing_is_never_worse_than_one_configuration_and_reaches_the_hull(data):
    count = data.draw(st.integers(2, 6))
    energies = data.draw(
        st.lists(st.floats(1, 100), min_size=count, max_size=count, unique=True)
    )
    ranks = data.draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))
    points = tuple(
        OperatingPoint(f"c{i}", rank, 5.0, 5.0, 5.0, energy_mj=mj)
        for i, (rank, mj) in enumerate(zip(ranks, energies, strict=True))
    )
    granted = data.draw(st.floats(min(energies), max(energies)))
    calls = 1500
    device = _Device(points).run(Budget(energy_mj=granted), calls)
    spread = max(ranks) - min(ranks)
    mix = best_mix([mj - granted for mj in energies], ranks)
    hull = ranks[mix.low] + mix.share * (ranks[mix.high] - ranks[mix.low])
    alone = max(rank for rank, mj in zip(ranks, energies, strict=True) if mj <= granted)
    assert device.spent_mj <= granted * (calls + BURST_CALLS)
    assert device.mean_rank >= alone - 0.002 * spread - 1e-9
    assert device.mean_rank == pytest.approx(hull, abs=0.01 * spread + 1e-9)
    assert Counter(device.ran).total() == calls


def test_a_budget_that_moves_a_little_with_each_call_is_kept():
    device = _Device(pause_s=0.04)
    for call in range(2000):
        device.run(Budget(power_w=1.0 + 0.001 * (call % 2), window_s=2.0), 1)
    assert device.mean_w == pytest.approx(1.0, rel=0.02)


def test_a_battery_that_is_granted_anew_with_each_call_is_kept():
    device = _Device(pause_s=0.04)
    while device.now_s < 60.0:
        left_mj, left_s = 60_000 - device.spent_mj, 61.0 - device.now_s
        device.run(Budget(energy_j=left_mj / 1000, horizon_s=left_s), 1)
    assert device.spent_mj == pytest.approx(60_000, rel=0.05)


def test_of_two_averages_the_one_that_is_overdrawn_decides():
    cool = OperatingPoint("slow and cool", 0.90, 80.0, 80.0, 80.0, energy_mj=100.0)
    hot = OperatingPoint("fast and hot", 0.95, 5.0, 5.0, 5.0, energy_mj=90.0)
    alone = _Device((cool, hot), pause_s=0.03).run(Budget(power_w=1.3, window_s=2.0), 2000)
    both = _Device((cool, hot), pause_s=0.03)
    both.run(Budget(power_w=1.3, window_s=2.0, energy_mj=105.0), 2000)
    assert alone.mean_w == pytest.approx(1.3, rel=0.02)
    assert both.mean_w <= 1.3 * 1.02


def test_what_cannot_be_saved_up_for_is_not_promised():
    big = OperatingPoint("big", 0.95, 5.0, 5.0, 5.0, energy_mj=400.0)
    small = OperatingPoint("small", 0.90, 5.0, 5.0, 5.0, energy_mj=8.0)
    device = _Device((big, small)).run(Budget(energy_mj=10.0), 500)
    assert set(device.ran) == {"small"}
    assert device.decisions[-1].partner == ""


def test_before_the_calls_pace_is_known_no_power_is_judged_infeasible():
    device = _Device(pause_s=0.2).run(Budget(power_w=0.5, window_s=2.0), 1)
    assert device.decisions[0].feasible


def test_a_pin_says_whether_it_meets_an_average_and_the_floor():
    state = before_choice(first_state(FAMILY), Budget(energy_mj=30.0), 0.0, 0.0)
    assert not decide(FAMILY, Budget(energy_mj=30.0), state, pinned="full").feasible
    assert decide(FAMILY, Budget(energy_mj=30.0), state, pinned="fast").feasible
    below = decide(FAMILY, Budget(min_accuracy=0.94), first_state(FAMILY), pinned="fast")
    assert (below.configuration, below.feasible, below.pinned) == ("fast", False, True)
