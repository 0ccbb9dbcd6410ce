from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime.call.health import Health
from tests.runtime.faulty import POINTS

FULL, MID, FAST = POINTS
NAMES = st.sampled_from(["full", "mid", "fast"])


def test_all_may_run_at_first():
    assert Health(POINTS).usable() == POINTS


def test_bad_and_hanging_ones_are_left_out():
    health = Health(POINTS)
    assert health.mark_bad("full", "no.")
    assert list(health.usable({"mid"})) == [FAST]
    assert list(health.usable()) == [MID, FAST]
    health.restore("full")
    assert list(health.usable()) == [FULL, MID, FAST]


def test_a_hanging_one_runs_where_nothing_else_is_good():
    health = Health(POINTS)
    health.mark_bad("full", "no.")
    assert list(health.usable({"mid", "fast"})) == [MID, FAST]


def test_marking_twice_changes_nothing():
    health = Health(POINTS)
    assert health.mark_bad("full", "first.")
    assert not health.mark_bad("full", "second.")
    assert health.bad == {"full": "first."}


@pytest.mark.parametrize(
    ("failed", "floor", "expected"),
    [
        (FULL, None, MID),
        (MID, None, FAST),
        (FAST, None, MID),
        (FULL, 0.92, MID),
        (MID, 0.92, FULL),
        (FULL, 0.94, MID),
        (FAST, 0.99, FULL),
    ],
)
def test_the_next_cheaper_stands_in(failed, floor, expected):
    assert Health(POINTS).stand_in(failed, (), floor) == expected


def test_what_is_left_out_does_not_stand_in():
    health = Health(POINTS)
    health.mark_bad("mid", "no.")
    assert health.stand_in(FULL) == FAST
    assert health.stand_in(FULL, {"fast"}) is None
    assert Health(POINTS[:1]).stand_in(FULL) is None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("bad"), NAMES),
            st.tuples(st.just("restore"), NAMES),
            st.tuples(st.just("hang"), NAMES),
            st.tuples(st.just("end"), NAMES),
        )
    )
)
def test_something_may_always_run(steps):
    health, hanging = Health(POINTS), set()
    for step, name in steps:
        if step == "bad":
            health.mark_bad(name, "no.")
        elif step == "restore":
            health.restore(name)
        elif step == "hang":
            hanging.add(name)
        else:
            hanging.discard(name)
        usable = health.usable(hanging)
        assert usable
        assert not {point.configuration for point in usable} & set(health.bad)
        for point in POINTS:
            stand_in = health.stand_in(point, hanging)
            assert stand_in is None or stand_in in usable
            assert stand_in != point
