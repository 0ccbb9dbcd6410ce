"""Gates learnt backwards: what all samples cost is what theory says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.compiler.policy.policies import (
    LOSSES,
    Oracle,
    costs_of,
    learnt,
    outcome_of,
)
from skipc.compiler.policy.recursion import backward, best_threshold, fitted_gate
from skipc.runtime.bundle.route import NEVER
from tests.compiler.policy.synthetic import answers

WRONG = LOSSES["max-error"]


@given(exits=st.integers(2, 5), samples=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_the_cost_is_the_least_one_plus_the_mistakes(exits, samples, seed):
    rng = np.random.default_rng(seed)
    times_ms = np.cumsum(rng.random(exits))
    costs = times_ms[:, None] + 10 * (rng.random((exits, samples)) < 0.3)
    said = rng.random((exits, samples)) < 0.5
    later = [costs[-1]]

    def gate(number, label, weight):
        answered = said[number]
        least = np.minimum(costs[number], later[-1])
        later.append(np.where(answered, costs[number], later[-1]))
        mistakes = weight[answered != label].sum()
        assert later[-1].sum() == pytest.approx(least.sum() + mistakes)
        return answered

    found = backward(costs, gate)
    said[-1] = True
    stops = said.argmax(0)
    np.testing.assert_array_equal(found, costs[stops, np.arange(samples)])


def test_gates_without_mistakes_are_the_oracle():
    seen = answers(200)
    costs = costs_of(seen, 7.0, WRONG)
    best = backward(costs, lambda number, label, weight: label)
    stops = Oracle(7.0, WRONG).followed(seen).stops
    np.testing.assert_array_equal(best, costs[stops, np.arange(200)])


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 9)), min_size=1))
def test_no_threshold_costs_less_than_the_best(rows):
    total, label, weight = (np.array(column) for column in zip(*rows, strict=True))
    total = total / 4

    def lost(threshold):
        return weight[(total >= threshold) != label].sum()

    cost, threshold = best_threshold(total, label, weight.astype(float))
    assert lost(threshold) == cost
    assert cost == min(lost(t) for t in (*total, NEVER))


def test_a_gate_finds_what_the_label_depends_on():
    rng = np.random.default_rng(0)
    scores = rng.random((500, 3))
    label = scores @ [1.0, 0.5, -1.0] + 0.1 * rng.normal(size=500) > 0.3
    weight = rng.random(500)
    weights, threshold = fitted_gate(scores, label, weight)
    np.testing.assert_allclose(weights, np.array([1.0, 0.5, -1.0]) / 2.5, atol=0.05)
    lost = weight[(scores @ weights >= threshold) != label].sum()
    for column in range(3):
        alone = [best_threshold(s * scores[:, column], label, weight)[0] for s in (1.0, -1.0)]
        assert lost < min(alone)


@pytest.mark.parametrize("label", [True, False])
def test_a_gate_of_one_kind_of_sample_is_always_open_or_shut(label):
    scores = np.random.default_rng(0).random((50, 3))
    weights, threshold = fitted_gate(scores, np.full(50, label), np.ones(50))
    assert np.all((scores @ weights >= threshold) == label)


def test_learnt_policies_go_from_fast_to_accurate():
    fitting, other = answers(1000), answers(1000, seed=1)
    found = [outcome_of(policy, other, WRONG) for policy in learnt(fitting, WRONG)]
    assert found[0].mean_ms < found[-1].mean_ms
    assert found[0].accuracy < found[-1].accuracy
    shortsighted = [
        outcome_of(policy, other, WRONG) for policy in learnt(fitting, WRONG, myopic=True)
    ]
    assert shortsighted != found
