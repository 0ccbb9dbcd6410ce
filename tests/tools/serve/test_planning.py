from __future__ import annotations

import math

import numpy as np
import pytest

from skipc.tools.serve.planning import Load, parted_by_time, plan, plan_late
from skipc.tools.serve.requests import Request

FULL_MS, FAST_MS = 9.0, 3.0


def _request(deadline_ms, rows=1, sizes=()):
    return Request({}, rows, sizes, 0.0, deadline_ms)


def _load(most_rows=1, free=0.0, **known):
    """``free`` is the part of a call that does not grow with its rows."""

    def predict_ms(sizes, rows):
        length = dict(sizes).get("T", 1)
        factor = length * (free + (1 - free) * rows)
        return [FULL_MS * factor, FAST_MS * factor]

    return Load(now_ms=100.0, most_rows=most_rows, predict_ms=predict_ms, **known)


def test_one_request_gets_what_is_left_of_its_time():
    chosen = plan([_request(120.0)], _load())
    assert len(chosen.taken) == 1
    assert chosen.granted_ms == 20.0


def test_the_longer_the_queue_the_less_a_call_is_granted():
    waiting = [_request(deadline) for deadline in (120.0, 121.0, 122.0, 140.0)]
    granted = [plan(waiting[:count], _load()).granted_ms for count in (1, 2, 3, 4)]
    assert granted == pytest.approx([20.0, 21 / 2, 22 / 3, 22 / 3])


def test_the_older_the_queue_the_less_a_call_is_granted():
    assert plan([_request(104.0)], _load()).granted_ms == 4.0


def test_requests_that_cost_nothing_more_are_joined():
    waiting = [_request(120.0) for _ in range(5)]
    chosen = plan(waiting, _load(most_rows=4, free=1.0))
    assert chosen.taken == tuple(waiting[:4])
    assert chosen.granted_ms == pytest.approx(10.0)  # another call follows


def test_a_batch_that_would_be_late_is_not_made():
    waiting = [_request(110.0), *(_request(200.0) for _ in range(7))]
    chosen = plan(waiting, _load(most_rows=8))
    assert FAST_MS * len(chosen.taken) <= chosen.granted_ms <= 10.0


def test_what_comes_meanwhile_is_left_time_for():
    alone = plan([_request(112.0)], _load(limit_ms=12.0, meanwhile_rows=0.5))
    assert alone.granted_ms == 12.0 - FAST_MS
    seldom = plan([_request(112.0)], _load(limit_ms=12.0, meanwhile_rows=0.005))
    assert seldom.granted_ms == 12.0
    never_less = plan([_request(112.0)], _load(limit_ms=4.0, meanwhile_rows=0.5))
    assert never_less.granted_ms == FAST_MS


def test_without_a_limit_what_gets_most_done_runs():
    waiting = [_request(math.inf) for _ in range(6)]
    chosen = plan(waiting, _load(most_rows=8, free=0.5))
    assert (len(chosen.taken), chosen.granted_ms) == (6, None)


def test_requests_of_other_sizes_are_not_joined_but_count_as_work():
    long = (("T", 2),)
    waiting = [_request(120.0), _request(121.0, sizes=long), _request(130.0)]
    chosen = plan(waiting, _load(most_rows=4, free=1.0))
    assert chosen.taken == (waiting[0], waiting[2])
    assert chosen.granted_ms == pytest.approx(7.0)  # the other one takes two turns


def test_a_request_counts_by_its_rows():
    waiting = [_request(160.0, rows=3), _request(160.0, rows=2)]
    assert plan(waiting, _load(most_rows=4)).taken == (waiting[0],)


def test_those_that_even_the_fastest_answers_late_are_told_apart():
    waiting = [_request(102.0), _request(103.5), _request(99.0)]
    in_time, late = parted_by_time(waiting, _load())
    assert (in_time, late) == ([waiting[1]], [waiting[0], waiting[2]])


@pytest.mark.parametrize(("deadline_ms", "granted_ms"), [(102.0, 2.0), (90.0, 1e-3)])
def test_the_late_run_together_as_fast_as_can_be(deadline_ms, granted_ms):
    waiting = [_request(deadline_ms) for _ in range(5)]
    chosen = plan_late(waiting, _load(most_rows=4))
    assert (len(chosen.taken), chosen.granted_ms) == (4, granted_ms)


def test_no_plan_grants_more_than_is_left_to_those_that_it_takes():
    rng = np.random.default_rng(0)
    for _ in range(200):
        deadlines = np.sort(100 + rng.uniform(3.1, 60, rng.integers(1, 20)))
        waiting = [_request(each, rows=1 + int(rng.integers(0, 2))) for each in deadlines]
        load = _load(most_rows=int(rng.integers(2, 9)), free=float(rng.random()))
        chosen = plan(waiting, load)
        assert chosen.granted_ms <= chosen.taken[0].deadline_ms - 100 + 1e-9
        assert sum(each.rows for each in chosen.taken) <= load.most_rows
