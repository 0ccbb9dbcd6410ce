from __future__ import annotations

import numpy as np
import pytest

from skipc.runtime import Budget, BudgetError


@pytest.mark.parametrize("given", [12.5, 12, np.float32(12), np.float64(3), np.int64(4)])
def test_budget_takes_any_real_number(given):
    assert Budget(latency_ms=given).latency_ms == float(given)
    assert type(Budget(latency_ms=given).latency_ms) is float


def test_budget_grants_everything_by_default():
    assert Budget().latency_ms is None


@pytest.mark.parametrize("given", [True, "12", [12], np.bool_(True), 1j, {}])
def test_budget_refuses_what_is_not_a_number(given):
    with pytest.raises(BudgetError, match=r"is not a number\. Expected milliseconds"):
        Budget(latency_ms=given)


@pytest.mark.parametrize("given", [0, -1.0, float("nan"), float("inf"), 1e-400])
def test_budget_refuses_what_cannot_be_met(given):
    with pytest.raises(BudgetError, match="positive, finite number of milliseconds"):
        Budget(latency_ms=given)


def test_budget_is_frozen():
    with pytest.raises(AttributeError):
        Budget(latency_ms=1).latency_ms = 2
