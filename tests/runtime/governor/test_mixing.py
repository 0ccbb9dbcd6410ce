from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from skipc.runtime.governor.averages import best_mix

_fronts = st.lists(
    st.tuples(st.integers(-1000, 1000), st.integers(0, 1000)), min_size=1, max_size=8
)


def _mean(values, mix):
    return (1 - mix.share) * values[mix.low] + mix.share * values[mix.high]


def test_one_that_fits_alone_runs_alone():
    mix = best_mix([-5.0, -1.0, 3.0], [0.8, 0.95, 0.9])
    assert (mix.low, mix.high, mix.share) == (1, 1, 0.0)


def test_two_neighbours_share_what_is_granted():
    mix = best_mix([-6.0, -2.0, 2.0, 8.0], [0.80, 0.90, 0.95, 0.96])
    assert (mix.low, mix.high, mix.share) == (1, 2, 0.5)


def test_what_lies_below_the_hull_is_passed_over():
    mix = best_mix([-4.0, -1.0, 4.0], [0.80, 0.81, 0.96])
    assert (mix.low, mix.high, mix.share) == (0, 2, 0.5)


def test_neighbours_are_preferred_on_a_straight_front():
    excesses = [-25.0, -15.0, -5.0, 5.0, 15.0]
    mix = best_mix(excesses, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert (mix.low, mix.high) == (2, 3)


def test_nothing_that_fits_is_none():
    assert best_mix([1.0, 0.5], [0.9, 0.8]) is None


@given(_fronts)
def test_it_is_the_linear_programmes_optimum(front):
    excesses, ranks = (np.array(each, float) for each in zip(*front, strict=True))
    mix = best_mix(excesses.tolist(), ranks.tolist())
    if mix is None:
        assert (excesses > 0).all()
        return
    assert _mean(excesses, mix) <= 1e-9
    alone = max(rank for excess, rank in front if excess <= 0)
    assert _mean(ranks, mix) >= alone - 1e-12
    found = linprog(
        -ranks, A_ub=[excesses], b_ub=[0.0], A_eq=[np.ones(len(ranks))], b_eq=[1.0]
    )
    assert _mean(ranks, mix) == pytest.approx(-found.fun, abs=1e-4)
