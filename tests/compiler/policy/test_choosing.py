"""Routes of several chains: the fastest of all that lose no more than allowed."""

from __future__ import annotations

from skipc.compiler.policy.choosing import Chain, best_routes
from skipc.compiler.policy.policies import LOSSES, SOLVERS, outcome_of
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
                        assert route.selection.mean_ms <= other.mean_ms
                        if kind == "uniform threshold":
                            assert route.one_threshold <= other.mean_ms


def test_what_is_learnt_beats_one_threshold_or_is_not_taken():
    for drop in (0.0, 0.01, 0.1, 1.0):
        (route,) = best_routes([LONG], 1 - LONG.selection.wrong[-1].mean(), [drop])
        if route.policy != "uniform threshold":
            assert route.selection.mean_ms < route.one_threshold
    # With everything allowed all leave at once, by one threshold.
    assert (route.policy, route.selection.mean_ms) == ("uniform threshold", 1.0)


def test_a_drop_that_nothing_keeps_has_no_route():
    assert best_routes([SHORT], 2.0, DROPS) == []
