from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import Budget, BudgetError, OperatingPoint
from skipc.runtime.governor.budget import checked_budget, checked_deadline_ms
from tests.runtime.faulty import POINTS, Script, X, scripted

UNITS = {
    "latency_ms": "milliseconds",
    "energy_mj": "millijoules per inference",
    "power_w": "watts",
    "window_s": "seconds",
    "energy_j": "joules",
    "horizon_s": "seconds",
}
HUGE = pytest.param(10**400, id="huge")
NOT_NUMBERS = (True, "12", [12], np.bool_(True), 1j, {}, np.array([1.0]))
NOT_LIMITS = (0, -1.0, float("nan"), float("inf"), -float("inf"), 1e-400, HUGE)


@pytest.mark.parametrize("given", [12.5, 12, np.float32(12), np.float64(3), np.int64(4)])
def test_budget_takes_any_real_number(given):
    assert Budget(latency_ms=given).latency_ms == float(given)
    assert type(Budget(latency_ms=given).latency_ms) is float


def test_budget_grants_everything_by_default():
    assert Budget().latency_ms is None


def test_budget_is_frozen():
    with pytest.raises(AttributeError):
        Budget(latency_ms=1).latency_ms = 2


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("given", NOT_NUMBERS)
def test_every_limit_refuses_what_is_not_a_number(name, given):
    expected = rf"^{name}=.* is not a number\. Expected {UNITS[name]}, such as {name}=12\.5"
    with pytest.raises(BudgetError, match=expected):
        Budget(**{name: given})


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("given", NOT_LIMITS)
def test_every_limit_refuses_what_cannot_be_met(name, given):
    expected = rf"^{name}=.* can be met\. Expected a positive, finite number of {UNITS[name]}"
    with pytest.raises(BudgetError, match=expected):
        Budget(**{name: given})


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("given", [5e-324, 9e-10, 1.1e15, 1.7e308])
def test_every_limit_refuses_what_no_device_takes(name, given):
    expected = (
        rf"^{name}=.* is beyond what any device takes\. Expected 1e-09 to 1e\+15 {UNITS[name]}"
    )
    with pytest.raises(BudgetError, match=expected):
        Budget(**{name: given})


EXTREMES = st.sampled_from([1e-9, 1e-6, 1.0, 10.0, 1e4, 1e9, 1e15])


@given(
    st.lists(
        st.tuples(
            st.fixed_dictionaries(
                {},
                optional={"latency_ms": EXTREMES, "energy_mj": EXTREMES, "power_w": EXTREMES},
            ),
            st.none() | st.tuples(EXTREMES, EXTREMES),
            st.sampled_from([0.0, 1e-6, 1.0, 1e6, 1e12]),
        ),
        max_size=8,
    )
)
def test_balances_stay_numbers_under_any_limits(steps):
    engine, clock = scripted(Script(), idle_w=5)
    with engine:
        for limits, battery, pause_ms in steps:
            if battery is not None:
                limits = {**limits, "energy_j": battery[0], "horizon_s": battery[1]}
            engine.budget = Budget(**limits)
            for _ in range(3):
                engine(X)
                clock.advance_ms(pause_ms)
            account = engine._control.state.account
            if account is not None:
                balances_mj = (account.energy_mj, account.power_mj, account.battery_mj)
                assert np.isfinite(balances_mj).all()


@pytest.mark.parametrize("given", NOT_NUMBERS)
def test_quantile_refuses_what_is_not_a_number(given):
    with pytest.raises(BudgetError, match=r"quantile=.* is not a number\. Expected a share"):
        Budget(latency_ms=1, quantile=given)


@pytest.mark.parametrize(
    "given", [0, 0.499, 1, 1.5, 99, -1, float("nan"), float("inf"), 1 - 1e-17, HUGE]
)
def test_quantile_is_a_share_that_can_be_predicted(given):
    with pytest.raises(BudgetError, match=r"Expected 0\.5 or more and less than 1"):
        Budget(latency_ms=1, quantile=given)


@pytest.mark.parametrize("given", [0.5, 0.99, np.float32(0.75), 1 - 1e-16])
def test_quantile_is_finite_in_deviations(given):
    assert 0 <= Budget(quantile=given).deviations < 10


@pytest.mark.parametrize("given", [*NOT_NUMBERS, float("nan"), float("inf"), HUGE])
def test_min_accuracy_is_a_finite_number(given):
    with pytest.raises(BudgetError, match=r"min_accuracy=.* is not a"):
        Budget(min_accuracy=given)


@pytest.mark.parametrize("given", [0, -1.5, 0.9, 93])
def test_min_accuracy_is_in_the_unit_of_the_front(given):
    assert Budget(min_accuracy=given).min_accuracy == given


def test_a_window_needs_a_power():
    with pytest.raises(BudgetError, match=r"window_s=5 .* Expected Budget\(power_w=\.\.\., w"):
        Budget(window_s=5)
    assert Budget(power_w=3).window_s == 10.0


@pytest.mark.parametrize("given", [{"energy_j": 5}, {"horizon_s": 5}])
def test_a_battery_needs_both_of_its_pair(given):
    with pytest.raises(BudgetError, match="belong together: how much energy, and how long"):
        Budget(**given)


@pytest.mark.parametrize("given", [5, 5.0, "fast", {"latency_ms": 5}, Budget])
def test_what_is_no_budget_is_refused(given):
    with pytest.raises(BudgetError, match=r"is not a Budget\. Expected Budget\(latency_ms="):
        checked_budget(given)


@pytest.mark.parametrize("given", [*NOT_NUMBERS, *NOT_LIMITS])
def test_a_wrong_deadline_is_refused_before_anything_runs(given):
    script = Script()
    engine, _ = scripted(script)
    with engine:
        with pytest.raises(BudgetError, match=r"^deadline_ms=.* Expected .*milliseconds"):
            engine(X, deadline_ms=given)
        assert script.ran == []
        assert engine.stats().calls == 0


def test_a_deadline_is_a_number_or_nothing():
    assert checked_deadline_ms(None) is None
    assert checked_deadline_ms(np.float32(4)) == 4.0
    with pytest.raises(BudgetError) as error:  # engine(left, right)
        checked_deadline_ms(np.zeros((3, 8, 8)))
    assert len(str(error.value)) < 200


def test_a_wrong_budget_leaves_the_old_one():
    engine, _ = scripted(Script(), budget=Budget(latency_ms=7), ranked_by="accuracy")
    with engine:
        for wrong in (5, Budget(min_accuracy=0.99)):
            with pytest.raises(BudgetError):
                engine.budget = wrong
            assert engine.budget == Budget(latency_ms=7)
        engine(X)
        assert engine.last.configuration == "mid"


@pytest.mark.parametrize(
    ("budget", "ranked_by", "message"),
    [
        (Budget(min_accuracy=0.9), "macs", r"min_accuracy=0\.9: the accuracies .* not known"),
        (Budget(min_accuracy=0.96), "accuracy", r"0\.96 is more than .* 'full': 0\.95"),
    ],
)
def test_an_accuracy_that_none_has_is_refused(budget, ranked_by, message):
    with pytest.raises(BudgetError, match=message):
        scripted(Script(), budget=budget, ranked_by=ranked_by)


@pytest.mark.parametrize(
    "budget", [Budget(energy_mj=5), Budget(power_w=5), Budget(energy_j=5, horizon_s=5)]
)
def test_an_energy_of_which_nothing_is_known_is_refused(budget):
    points = [
        OperatingPoint(point.configuration, point.rank, point.p50_ms, point.p95_ms)
        for point in POINTS
    ]
    expected = "energy and power cannot be kept while neither is known: give each"
    with pytest.raises(BudgetError, match=expected):
        scripted(Script(), points=points, budget=budget)
    engine, _ = scripted(Script(), points=points)
    with engine, pytest.raises(BudgetError, match=expected):
        engine.budget = budget
