"""Fronts, hypervolumes and thinning against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymoo.indicators.hv import HV

from skipc.compiler.select.pareto import ReferencePoint, front_of, hypervolume, thin
from skipc.compiler.select.space import Candidate

REFERENCE = ReferencePoint(10.0, 0.1)


def candidate(number, cost, score):
    return Candidate(tuple(int(bit) for bit in f"{number:08b}"), score, cost)


POINTS = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 20)), min_size=1, max_size=9
).map(lambda pairs: [candidate(i, float(c), s / 20) for i, (c, s) in enumerate(pairs)])


def dominated(one, other):
    better = other.score >= one.score and other.cost <= one.cost
    return better and (other.score, other.cost) != (one.score, one.cost)


@given(POINTS)
def test_front_holds_what_nothing_dominates(points):
    front = front_of(points)
    kept = {(p.cost, p.score) for p in points if not any(dominated(p, o) for o in points)}
    assert {(p.cost, p.score) for p in front} == kept
    assert len(front) == len(kept)
    assert [p.cost for p in front] == sorted(p.cost for p in front)


def test_equals_are_settled_by_fewer_skipped_units():
    few, many = candidate(0b1, 5.0, 0.5), candidate(0b111, 5.0, 0.5)
    assert front_of([many, few]) == (few,)


@given(POINTS)
def test_hypervolume_is_pymoos(points):
    expected = HV(ref_point=np.array([10.0, -0.1]))(
        np.array([[p.cost, -p.score] for p in points])
    )
    assert hypervolume(front_of(points), REFERENCE) == pytest.approx(expected / (10 * 0.9))


@given(POINTS, st.integers(1, 5))
def test_thinned_front_covers_most(points, size):
    front = front_of(points)
    thinned = thin(front, size, REFERENCE)
    assert len(thinned) == min(size, len(front))
    assert thinned[-1] == front[-1]
    inside = all(p.cost < 10 and p.score > 0.1 for p in front)
    if inside and len(front) > size >= 2:
        best = max(
            hypervolume(choice, REFERENCE)
            for choice in itertools.combinations(front, size)
            if front[0] in choice and front[-1] in choice
        )
        assert hypervolume(thinned, REFERENCE) == pytest.approx(best)


def test_front_worse_than_the_reference_covers_nothing():
    assert hypervolume((candidate(0, 11.0, 0.9),), REFERENCE) == 0
    assert hypervolume((candidate(0, 5.0, 0.05),), REFERENCE) == 0
    assert hypervolume((), REFERENCE) == 0
