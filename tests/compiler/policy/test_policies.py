"""Policies are tests of the runtime, and spend what they are asked to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipc.compiler.policy.policies import (
    LOSSES,
    SOLVERS,
    for_budget,
    outcome_of,
    to_the_end,
)
from skipc.runtime.call.tests import goes_to
from tests.compiler.policy.synthetic import answers

WRONG = LOSSES["max-error"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_policy_stops_where_the_runtime_does(solver):
    seen = answers(400, starts=(0, 1, 2))
    policies = SOLVERS[solver](seen, WRONG)[::15]
    assert policies
    stage_ms = np.diff(seen.upto_ms, prepend=0)
    for policy in policies:
        found = policy.followed(seen)
        for row, (stop, took_ms) in enumerate(zip(*found, strict=True)):
            at, ran_ms = 0, stage_ms[0]
            while at < len(policy.tests):
                logits = seen.logits[at, row : row + 1]
                following = int(goes_to(policy.tests[at], at, logits)[0])
                if following == at:
                    break
                at = following
                ran_ms += stage_ms[at]
            assert at == stop
            assert ran_ms == pytest.approx(took_ms)


@settings(max_examples=30)
@given(
    share=st.floats(0, 1),
    count=st.integers(2, 5),
    noise=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_a_budget_is_spent(share, count, noise):
    seen = answers(500, count=count, noise=noise)
    upto_ms = seen.upto_ms
    budget_ms = upto_ms[0] + share * (upto_ms[-1] - upto_ms[0])
    mean_ms = outcome_of(for_budget(seen, budget_ms), seen, WRONG).mean_ms
    # Rounding moves one sample at each exit; equal scores only leave together.
    assert mean_ms <= budget_ms + count * upto_ms[-1] / 500
    if len(np.unique(seen.scores[:, :, 0])) == seen.scores[:, :, 0].size:
        assert mean_ms >= budget_ms - count * upto_ms[-1] / 500


def test_losses_are_what_their_names_say():
    seen = answers(1000, noise=3.0)
    last = to_the_end(seen)
    assert outcome_of(last, seen, LOSSES["max-drop"]).failures == 0
    assert outcome_of(last, seen, LOSSES["max-disagreement"]).failures == 0
    assert outcome_of(last, seen, WRONG).failures == seen.wrong[-1].sum()
    first = for_budget(seen, 0.0)
    found = outcome_of(first, seen, LOSSES["max-drop"])
    assert found.shares == (1.0, 0.0, 0.0)
    assert found.failures == (seen.wrong[0] & ~seen.wrong[2]).sum()
    assert outcome_of(first, seen, LOSSES["max-disagreement"]).failures > found.failures
    assert found.accuracy == pytest.approx(1 - seen.wrong[0].mean())
    assert found.mean_ms == 1.0
