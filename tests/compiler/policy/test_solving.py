"""What is taken does best on the selection part, and is certified on another."""

from __future__ import annotations

import numpy as np
import pytest

from skipc.compiler.errors import PolicyError
from skipc.compiler.policy.answers import Answers
from skipc.compiler.policy.policies import LOSSES, SOLVERS, outcome_of, uniform
from skipc.compiler.policy.solving import FULL, Bound, solve
from tests.compiler.policy.synthetic import answers

WRONG = LOSSES["max-error"]

SAMPLES = 400
FITTING, SELECTION, CALIBRATION, REPORT, OTHER = (answers(SAMPLES, seed) for seed in range(5))


def test_the_fastest_within_the_drop_is_taken():
    solved = solve(FITTING, SELECTION, CALIBRATION, REPORT, None)
    assert solved.failures is None
    kinds = [kind for kind in SOLVERS if kind != "gates that jump"]  # one network
    assert list(solved.outcomes) == [FULL, *kinds, "myopic gates", "oracle"]
    found = outcome_of(solved.gates, SELECTION, WRONG)
    full = 1 - SELECTION.wrong[-1].mean()
    assert full - found.accuracy <= 0.003
    for policy in uniform(FITTING, WRONG):
        other = outcome_of(policy, SELECTION, WRONG)
        if full - other.accuracy <= 0.003:
            assert found.mean_ms <= other.mean_ms
    assert solved.outcomes[solved.name] == outcome_of(solved.gates, REPORT, WRONG)
    oracle = solved.outcomes["oracle"]
    assert oracle.mean_ms < solved.outcomes[solved.name].mean_ms
    assert oracle.accuracy >= solved.outcomes[FULL].accuracy - 0.01


def test_no_part_is_looked_at_for_more_than_it_is_there_for():
    bound = Bound("max-drop", 0.03, 0.9)
    solved = solve(FITTING, SELECTION, CALIBRATION, REPORT, bound)
    assert solved.failures is not None
    assert 0 < solved.failures < 0.03 * SAMPLES
    again = solve(FITTING, SELECTION, CALIBRATION, OTHER, bound)
    assert (again.gates, again.failures) == (solved.gates, solved.failures)
    assert solve(FITTING, SELECTION, OTHER, REPORT, bound).name == solved.name


def test_where_every_early_answer_is_a_loss_none_is_given():
    def contrary(seen):
        logits = np.stack([-seen.logits[-1], seen.logits[-1]])
        return Answers.of(logits, seen.labels, seen.tests[:1], [1.0, 2.0])

    parts = [contrary(FITTING)] * 4
    solved = solve(*parts, Bound("max-disagreement", 0.006, 0.9))
    assert solved.name == FULL
    assert solved.failures == 0
    assert solved.outcomes[FULL].shares == (0.0, 1.0)


@pytest.mark.parametrize(
    ("bound", "messages"),
    [
        (
            Bound("max-error", 0.001, 0.9),
            ("--max-error 0.001 with --sure 0.9", "No number of samples would do: allow more"),
        ),
        (
            Bound("max-drop", 0.0002, 0.9),
            ("nothing holds --max-drop 0.02", "11512 samples would do. Nothing was changed"),
        ),
    ],
)
def test_what_cannot_be_certified(bound, messages):
    with pytest.raises(PolicyError) as caught:
        solve(FITTING, SELECTION, CALIBRATION, REPORT, bound)
    for message in messages:
        assert message in str(caught.value)
