"""Gates that jump: no limits cost less, and a network that cannot help is not asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.compiler.policy.answers import Answers, starts_of
from skipc.compiler.policy.jumps import backward_jumping, best_cuts
from skipc.compiler.policy.policies import (
    LOSSES,
    Oracle,
    jumping,
    learnt,
    outcome_of,
    safest_first,
)
from skipc.compiler.policy.solving import Bound, solve
from skipc.runtime.bundle.route import NEVER, Stage, Test
from tests.compiler.policy.synthetic import answers

WRONG = LOSSES["max-error"]


@given(
    st.lists(st.tuples(st.integers(0, 4), *3 * [st.integers(0, 9)]), min_size=1, max_size=12)
)
def test_no_limits_cost_less_than_the_best(rows):
    total, *costs = (np.array(column, float) for column in zip(*rows, strict=True))
    total = total / 4
    answer, onward, over = costs

    def lost(threshold, below):
        on_or_over = np.where(total < below, over, onward)
        return np.where(total >= threshold, answer, on_or_over).sum()

    found = best_cuts(total, *costs)
    assert found.below <= found.threshold
    assert lost(found.threshold, found.below) == pytest.approx(found.cost)
    limits = [*total, NEVER, -NEVER]
    assert found.cost == pytest.approx(
        min(lost(a, b) for a in limits for b in limits if b <= a)
    )


def hopeless(seed: int) -> Answers:
    """Answers of three networks; what the first has no idea of, only the last one knows."""
    rng = np.random.default_rng(seed)
    samples, classes = 600, 4
    labels = rng.integers(0, classes, samples)
    ease = rng.random(samples)
    noise = rng.normal(size=(3, samples, classes))
    # Sure and right above 0.6; above 0.3 the second knows; below it nobody but the last does.
    strength = np.stack(
        [
            np.where(ease > 0.6, 8.0, np.where(ease > 0.3, 3.0, 0.0)),
            np.where(ease > 0.3, 8.0, 0.0),
            np.full(samples, 8.0),
        ]
    )
    wrong = (labels + 1) % classes
    toward = np.where((ease > 0.3) & (ease <= 0.6), wrong, labels)
    aims = np.stack(
        [np.eye(classes)[toward], np.eye(classes)[labels], np.eye(classes)[labels]]
    )
    logits = (strength[:, :, None] * aims + 0.3 * noise).astype(np.float32)
    tests = tuple(Test("logits", {"max-softmax": 1.0}, 0.0) for _ in range(2))
    return Answers.of(logits, labels, tests, [1.0, 6.0, 16.0], (0, 1, 2))


PARTS = [hopeless(seed) for seed in range(4)]


def test_what_is_hopeless_does_not_ask_the_middle_network():
    fitting, selection, *_ = PARTS

    def fastest(solver):
        seen = safest_first(solver(fitting, WRONG), selection, WRONG)
        return min(s.outcome.mean_ms for s in seen if s.outcome.accuracy >= 0.99)

    # 0.3 of the samples save the middle one's 5 ms.
    assert fastest(jumping) == pytest.approx(fastest(learnt) - 1.5, abs=0.25)
    oracle = outcome_of(Oracle(1000.0, WRONG), selection, WRONG)
    assert oracle.mean_ms <= fastest(jumping)


def test_it_is_taken_and_certified_where_it_beats_the_chain():
    solved = solve(*PARTS, Bound("max-error", 0.05, 0.9))
    assert solved.name == "gates that jump"
    (first, _) = solved.gates.tests
    assert first.jump is not None
    assert first.jump.stage == 2
    assert solved.failures is not None
    assert solved.failures < 0.05 * 600


def test_without_mistakes_gates_cost_what_the_best_way_does():
    seen = answers(200, count=4, starts=(0, 2, 3))
    assert seen.targets == [[2, 3], [3], []]
    prices = 7.0 * WRONG(seen)
    stage_ms = np.diff(seen.upto_ms, prepend=0)

    def gate(number, ways):
        assert sorted(ways) == sorted({number, number + 1, *seen.targets[number]})
        kinds, costs = list(ways), np.array(list(ways.values()))
        return np.array(kinds)[costs.argmin(0)]

    found = backward_jumping(prices, stage_ms, seen.targets, gate)
    np.testing.assert_allclose(found, (seen.least_ms[:, None] + prices).min(0))


def test_a_network_begins_where_nothing_earlier_is_read():
    def stage(**feeds):
        return Stage("graph", feeds)

    assert starts_of([stage(), stage(hidden="0.hidden"), stage(), stage(x="2.x")]) == (0, 2)
    assert starts_of([stage(), stage(images="images"), stage(old="0.old")]) == (0,)
