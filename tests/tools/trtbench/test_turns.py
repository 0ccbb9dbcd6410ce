from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from skipc.tools.trtbench.running.turns import turn_orders


@pytest.mark.parametrize("count", range(1, 12))
def test_each_follows_each_other_equally_often_and_has_every_place(count: int) -> None:
    rows = turn_orders(count)
    assert all(sorted(row) == list(range(count)) for row in rows)
    followers = Counter(pair for row in rows for pair in pairwise(row))
    assert len(followers) == count * (count - 1)
    assert len(set(followers.values())) <= 1
    places = Counter(pair for row in rows for pair in enumerate(row))
    assert len(places) == count**2
    assert len(set(places.values())) == 1


@pytest.mark.parametrize("count", range(3, 12))
def test_nobody_has_two_turns_running(count: int) -> None:
    rows = turn_orders(count)
    assert all(row[-1] != after[0] for row, after in pairwise((*rows, rows[0])))
