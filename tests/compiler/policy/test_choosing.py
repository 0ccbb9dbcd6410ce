"""Routes of several chains: the fastest of all that lose no more than allowed."""

from __future__ import annotations

import numpy as np

from skipc.compiler.policy.choosing import Chain, best_routes
from skipc.compiler.policy.policies import (
    LOSSES,
    SOLVERS,
    Followed,
    is_faster,
    outcome_of,
)
from tests.compiler.policy.synthetic import answers

DROPS = (0.003, 0.03)
LONG = Chain("long", *(answers(400, seed) for seed in range(3)))
SHORT = Chain("short", *(answers(400, seed, count=2) for seed in range(3)))


def test_no_policy_of_any_chain_that_drops_as_little_is_faster():
    full = 1 - LONG.selection.wrong[-1].mean()
    found = best_routes([LONG, SHORT], full, DROPS)
    assert [route.drop for route in found] == [*DROPS]
    loss = LOSSES["max-error"]
    for route in found:
        assert route.selection == outcome_of(route.gates, route.chain.selection, loss)
        assert route.report == outcome_of(route.gates, route.chain.report, loss)
        assert full - route.selection.accuracy <= route.drop + 1e-9
        for chain in (LONG, SHORT):
            for kind, solver in SOLVERS.items():
                for policy in solver(chain.fitting, loss):
                    other = outcome_of(policy, chain.selection, loss)
                    if full - other.accuracy <= route.drop:
                        if kind == "uniform threshold":
                            assert route.one_threshold <= other.mean_ms
                        elif route.policy != "uniform threshold":
                            assert route.selection.mean_ms <= other.mean_ms
        assert route.selection.mean_ms <= route.one_threshold


def test_what_is_learnt_beats_one_threshold_or_is_not_taken():
    for drop in (0.0, 0.01, 0.1, 1.0):
        (route,) = best_routes([LONG], 1 - LONG.selection.wrong[-1].mean(), [drop])
        if route.policy != "uniform threshold":
            assert route.selection.mean_ms < route.one_threshold
    # With everything allowed all leave at once, by one threshold.
    assert (route.policy, route.selection.mean_ms) == ("uniform threshold", 1.0)


def test_a_gain_that_chance_explains_is_none():
    """The same solvers, on fewer and fewer samples."""
    taken = []
    for count in (4000, 60):
        parts = [answers(count, seed) for seed in range(3)]
        chain, full = Chain("one", *parts), 1 - parts[1].wrong[-1].mean()
        (route,) = best_routes([chain], full, [0.02])
        taken.append(route.policy)
        saved = route.one_threshold - route.selection.mean_ms
        assert (saved > 0) == (route.policy != "uniform threshold")
    assert taken[0] != "uniform threshold"
    assert taken[1] == "uniform threshold"


def test_what_is_saved_is_compared_sample_by_sample():
    stops = np.zeros(100, np.intp)
    before = np.tile([1.0, 9.0], 50)
    # A tenth less for each: certain, however much the samples differ.
    assert is_faster(Followed(stops, 0.9 * before), Followed(stops, before))
    assert not is_faster(Followed(stops, before), Followed(stops, before))
    # As much on average, but by a few samples of a hundred.
    few = before - np.where(np.arange(100) < 3, 16.0, 0.0)
    assert not is_faster(Followed(stops, few), Followed(stops, before))


def test_a_drop_that_nothing_keeps_has_no_route():
    assert best_routes([SHORT], 2.0, DROPS) == []
