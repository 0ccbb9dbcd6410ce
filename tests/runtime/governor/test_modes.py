"""Which power mode is wanted: never one that fails the budget, never back and forth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipc.runtime import Budget
from skipc.runtime.governor import after_call, before_choice, first_state
from skipc.runtime.governor.modes import (
    LONGEST_MODE_DWELL_S,
    SHORTEST_MODE_DWELL_S,
    TRIAL_DWELLS,
    Mode,
    after_change,
    choose_mode,
    first_modes,
    state_in,
    worth,
)
from tests.runtime.governor.families import FAMILY, families

SLOW, SLOWEST = (1.4, 0.5), (2.0, 0.3)


def in_mode(name, points, longer=1.0, power=1.0, change_ms=100.0):
    """A mode in which calls take so much longer, at so much of the power."""
    measured = tuple(
        replace(
            point,
            p50_ms=point.p50_ms * longer,
            p95_ms=point.p95_ms * longer,
            p99_ms=point.p99_ms and point.p99_ms * longer,
            energy_mj=point.energy_mj * longer * power,
        )
        for point in points
    )
    return Mode(name, measured, dict.fromkeys(("fast", "slow", "slowest"), change_ms))


def modes_of(points=FAMILY, change_ms=100.0):
    return (
        in_mode("fast", points, change_ms=change_ms),
        in_mode("slow", points, *SLOW, change_ms),
        in_mode("slowest", points, *SLOWEST, change_ms),
    )


MODES = modes_of()


def opened(modes=MODES, mode="fast"):
    points = next(each.points for each in modes if each.name == mode)
    return first_modes(modes, mode, False, None), first_state(points)


def settled(modes, known, state, budget, seconds, period_ms=0.0, step_s=0.25):
    """Lets time pass without a call; returns both states and the changes, with their time."""
    changes = []
    for step in range(round(seconds / step_s)):
        now_s = step * step_s
        # What is in force was seen, as if calls had come.
        seen = state.latency._replace(configuration=modes[0].points[0].configuration)
        base = seen.log_slowdown if known.base is None else known.base
        known, state = known._replace(base=base), state._replace(latency=seen)
        known, to = choose_mode(modes, known, state, budget, now_s, period_ms)
        if to != known.mode:
            changes.append((now_s, to))
            known, state = after_change(modes, known, state, to, now_s)
    return known, state, changes


@pytest.mark.parametrize(
    ("limit_ms", "mode"),
    [(30.0, "slowest"), (20.0, "slow"), (13.0, "fast"), (None, "slowest")],
)
def test_of_modes_that_are_as_accurate_the_cheapest_is_wanted(limit_ms, mode):
    known, _, _ = settled(MODES, *opened(), Budget(latency_ms=limit_ms), 30)
    assert known.mode == mode


def test_a_more_accurate_pair_goes_before_a_cheaper_one():
    # The full network fits in the fast mode alone, something smaller in each.
    known, _, _ = settled(MODES, *opened(mode="slowest"), Budget(latency_ms=13.0), 30)
    assert known.mode == "fast"


def test_where_nothing_fits_the_mode_is_wanted_that_keeps_most_calls():
    known, _, changes = settled(MODES, *opened(mode="slow"), Budget(latency_ms=2.3), 30)
    assert changes == [(0.0, "fast")]
    assert known.mode == "fast"


def test_calls_that_would_be_late_change_it_at_once_and_cheaper_ones_after_the_dwell():
    late = Budget(latency_ms=13.0, min_accuracy=0.95)
    _, _, (climb,) = settled(MODES, *opened(mode="slowest"), late, 10)
    assert climb == (0.0, "fast")
    _, _, (drop,) = settled(MODES, *opened(), Budget(), 10)
    assert drop == (SHORTEST_MODE_DWELL_S, "slowest")


def test_a_gain_must_pay_for_the_change():
    modes = modes_of(change_ms=5000.0)
    known, state = opened(modes)
    saving = 1 - math.prod(SLOWEST)
    _, _, (drop,) = settled(modes, known, state, Budget(), 60)
    assert drop[0] == pytest.approx(2 * 5 / saving, abs=0.25)
    slightly = (in_mode("fast", FAMILY), in_mode("slow", FAMILY, 1.2, 0.82))
    _, _, changes = settled(slightly, *opened(slightly), Budget(), 600)
    assert changes == []


def test_what_a_change_took_is_what_it_is_expected_to_take():
    known, state = opened()
    known, state = after_change(MODES, known, state, "slowest", 0.0, took_s=4.0)
    known, state = after_change(MODES, known, state, "fast", 0.0)
    _, _, changes = settled(MODES, known, state, Budget(), 60)
    assert changes[0][1] == "slow"  # which nobody saw taking so long


def test_idling_counts_where_it_is_known():
    # 80 mJ in 8 ms and 56 mJ in 11.2 ms of 20 ms: the faster one idles for longer, but dearer.
    _, state = opened()
    idle = replace(state.energy, idle_w=5.0)
    found = worth(FAMILY, Budget(), state._replace(energy=idle), 20.0, busy=False)
    assert found.energy_mj == pytest.approx(80.0 + 12.0 * 5.0)
    assert worth(FAMILY, Budget(), state._replace(energy=idle)).energy_mj == 80.0


def test_no_caller_is_made_to_fall_behind():
    seen = after_call(opened()[1], Budget(), FAMILY[0], 8.0, 0.0, 0.0)
    known, _, _ = settled(MODES, opened()[0], seen, Budget(), 30, period_ms=14.0)
    assert known.mode == "slow"  # in the slowest one a call takes 16 ms


def test_an_energy_budget_wants_the_mode_in_which_more_accurate_ones_are_affordable():
    budget = Budget(energy_mj=50.0)
    known, state = opened()
    state = before_choice(state, budget, 0.0, 0.0)
    known, _, _ = settled(MODES, known, state, budget, 30)
    assert known.mode == "slowest"
    power = Budget(power_w=1000.0, latency_ms=13.0)
    state = before_choice(opened()[1], power, 0.0, 0.0)
    assert settled(MODES, opened()[0], state, power, 30)[0].mode == "fast"


def test_a_slowdown_moves_the_other_modes_along_and_what_is_their_own_comes_back():
    known, state = opened()
    for _ in range(40):
        state = after_call(state, Budget(), FAMILY[0], 12.0, 0.0, 0.0)
    assert state_in(known, "slow", state).latency.slowdown == pytest.approx(1.5, rel=0.02)
    before = state.latency
    known, state = after_change(MODES, known, state, "slow", 0.0)
    for _ in range(40):
        state = after_call(state, Budget(), MODES[1].points[0], 11.2, 0.0, 0.0)
    known = known._replace(base=math.log(1.5))
    known, state = after_change(MODES, known, state, "fast", 0.0)
    assert state.latency.log_residuals == before.log_residuals
    assert state.latency.scatter == before.scatter
    assert state.latency.slowdown == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("dwell_s", [2.0, 3.0])
def test_a_mode_that_seems_slow_is_tried_later_each_time_in_vain(dwell_s):
    # The fast mode alone throttles, which nobody can know before another one was tried.
    modes, budget = (MODES[0], in_mode("slow", FAMILY, 1.1, 1.2)), Budget(latency_ms=15.0)
    known, state = opened(modes)
    for _ in range(40):
        state = after_call(state, Budget(), FAMILY[0], 16.0, 0.0, 0.0)
    assert state_in(known, "slow", state).latency.slowdown > 1.5
    known = known._replace(budget=budget, dwell_s=dwell_s)
    _, after, (trial,) = settled(modes, known, state, budget, TRIAL_DWELLS * dwell_s + 0.3)
    assert trial == (TRIAL_DWELLS * dwell_s, "slow")
    assert after.latency.slowdown > 1.5  # calls are predicted cautiously there


def test_one_mode_stays():
    alone = MODES[:1]
    known, state = opened(alone)
    for budget in (Budget(), Budget(latency_ms=1.0), Budget(latency_ms=9.0)):
        assert settled(alone, known, state, budget, 20)[2] == []


budgets = st.builds(
    Budget,
    latency_ms=st.none() | st.floats(1.0, 1e4),
    quantile=st.sampled_from([0.5, 0.9, 0.99]),
)


@settings(max_examples=40, deadline=None)
@given(points=families, budget=budgets, mode=st.sampled_from(["fast", "slow", "slowest"]))
def test_no_pair_that_fits_is_passed_over_for_one_that_does_not(points, budget, mode):
    modes = modes_of(points)
    known, state = opened(modes, mode)
    fits = {
        each.name: worth(
            each.points, budget, opened(modes, each.name)[1], margin=0.05
        ).feasible
        for each in modes
    }
    known, state, _ = settled(modes, known, state, budget, 12, step_s=1.0)
    here = next(each.points for each in modes if each.name == known.mode)
    assert worth(here, budget, state).feasible or not any(fits.values())


@settings(max_examples=15, deadline=None)
@given(
    factors=st.lists(st.floats(0.5, 3.0), min_size=20, max_size=60),
    limit_ms=st.floats(3.0, 40.0),
)
def test_it_never_flaps_within_the_dwell(factors, limit_ms):
    budget, (known, state) = Budget(latency_ms=limit_ms), opened()
    now_s, changed_s, speeds = 0.0, 0.0, {mode.name: mode.log_speed for mode in MODES}
    for factor in factors:
        points = next(mode.points for mode in MODES if mode.name == known.mode)
        for _ in range(6):
            state = after_call(state, budget, points[0], factor * points[0].p50_ms, 0.0, now_s)
            now_s += 0.15
            known, to = choose_mode(MODES, known, state, budget, now_s)
            if to == known.mode:
                continue
            if speeds[to] > speeds[known.mode]:
                assert now_s - changed_s >= SHORTEST_MODE_DWELL_S - 1e-9
            changed_s = now_s
            known, state = after_change(MODES, known, state, to, now_s)
            points = next(mode.points for mode in MODES if mode.name == known.mode)
            assert SHORTEST_MODE_DWELL_S <= known.dwell_s <= LONGEST_MODE_DWELL_S
