"""What a deadline cuts keeps the limit that was shown of it, as often as is said."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from skipc.compiler.policy.bound import upper_limit
from skipc.compiler.policy.deadlines import cut_limits, lost_if_cut
from skipc.compiler.policy.policies import LOSSES, Gates, confident
from skipc.compiler.policy.solving import Bound, solve
from skipc.runtime.bundle.certificate import Certificate, CutLimit, Cuts
from skipc.runtime.bundle.route import Jump
from tests.compiler.policy.synthetic import answers

REPEATS, SAMPLES, DELTA = 400, 300, 0.1
MOST = DELTA * REPEATS + 3 * np.sqrt(REPEATS * DELTA * (1 - DELTA))


def rows_of(seen, rows):
    """Returns the answers to some of the samples."""
    return replace(
        seen,
        logits=seen.logits[:, rows],
        labels=seen.labels[rows],
        given=seen.given[:, rows],
        scores=seen.scores[:, rows],
    )


@pytest.mark.parametrize(("failures", "samples"), [(0, 230), (3, 40), (39, 40)])
def test_the_limit_is_where_so_few_are_as_unlikely_as_said(failures, samples):
    limit = upper_limit(failures, samples, 0.9)
    tail = sum(
        comb(samples, k) * limit**k * (1 - limit) ** (samples - k) for k in range(failures + 1)
    )
    assert tail == pytest.approx(0.1)


def test_nothing_is_promised_where_all_are_lost():
    assert upper_limit(5, 5, 0.9) == 1.0


def test_limits_hold_together_and_streams_keep_them():
    """Cuts at various exits, in any order: the stream loses at most the largest limit."""
    population = answers(20_000, seed=7, count=4)
    gates, loss = confident(population, [0.95, 0.9, 0.8]), LOSSES["max-error"]
    stops, lost = gates.followed(population).stops, loss(population)
    every = np.arange(len(stops))
    true = np.array([lost[np.minimum(stops, k), every].mean() for k in range(3)])
    assert true[0] > 2 * true[2] > 0  # cutting early is another risk
    rng = np.random.default_rng(0)
    broken = naive = 0
    for _ in range(REPEATS):
        part = rows_of(population, rng.integers(0, len(stops), SAMPLES))
        limits = cut_limits(gates, part, loss, 1 - DELTA)
        broken += bool((true > [each.bound for each in limits]).any())
        naive += bool((true > [each.failures / SAMPLES for each in limits]).any())
    assert naive > 0.5 * REPEATS
    assert 0 < broken <= MOST
    # A load that comes and goes, and does not look at the samples, cuts at 0, at 1, or never.
    load = (np.arange(len(stops)) // 50) % 5
    at = np.minimum(stops, np.choose(load, [0, 1, 3, 3, 1]))
    stream = lost[at, rng.permutation(len(stops))].mean()
    assert stream < max(true[:2])


def test_cuts_are_counted_where_samples_would_go_on():
    parts = [answers(400, seed) for seed in range(4)]
    bound = Bound("max-drop", 0.03, 0.9)
    gates = solve(*parts, bound).gates
    report, loss = parts[3], LOSSES["max-drop"]
    found = cut_limits(gates, report, loss, 0.9)
    assert len(found) == 2
    for number, each in enumerate(found):
        wrong = 0
        for sample, stop in enumerate(gates.followed(report).stops):
            at = min(stop, number)
            right = report.given[:, sample] == report.labels[sample]
            wrong += int(right[-1] and not right[at])
        assert each == CutLimit(wrong, upper_limit(wrong, 400, 0.95))


def _edges(ways):
    """Returns every set of ways that calls may be let go: with a way all that begin it."""
    found = [{(0,)}]
    for way in ways[1:]:
        found += [edge | {way} for edge in found if way[:-1] in edge]
    return found


def _answered(edge, going):
    """Returns where a sample is answered that goes from each exit to another, or stays."""
    way = (0,)
    while way[-1] < len(going):
        onward = (*way, int(going[way[-1]]))
        if onward not in edge:
            break
        way = onward
    return way[-1]


@pytest.mark.parametrize("jumps", [(3, 3, None), (2, None, None), (None, 3, None), (2, 3, 4)])
def test_no_deadline_loses_more_of_tests_that_jump(jumps):
    """Every edge of time that two networks of two exits and one more can have."""
    seen = answers(60, seed=5, count=5, starts=(0, 2, 3, 4))
    tests = [
        replace(test, threshold=1.2, jump=to and Jump(0.6, to))
        for test, to in zip(confident(seen, [0.9] * 4).tests, (*jumps, None), strict=True)
    ]
    tests = [replace(t, scores={"margin": 1.0, "max-softmax": 0.5}) for t in tests]
    gates, lost = Gates(tuple(tests)), LOSSES["max-error"](seen)
    going = np.array([seen.going(number, test) for number, test in enumerate(tests)])
    assert all((going[n] == to).any() for n, to in enumerate(jumps) if to)
    ways = [(0,)]
    for way in ways:
        if way[-1] < 4:
            test = tests[way[-1]]
            further = {way[-1] + 1} | ({test.jump.stage} if test.jump else set())
            ways += [(*way, stage) for stage in sorted(further)]
    cut = np.array([lost_if_cut(gates, seen, lost, exit_) for exit_ in range(4)])
    most = np.zeros_like(cut)
    for edge in _edges(ways):
        answered = [_answered(edge, steps) for steps in going.T]
        this = lost[answered, np.arange(len(answered))]
        cuts = {way[-2] for way in ways if way not in edge and way[:-1] in edge}
        for exit_ in cuts:
            assert not (this & ~cut[exit_]).any()
            most[exit_] |= this
    assert (most == cut).all()  # and some edge loses each of them


def test_a_call_is_covered_by_what_ended_it():
    cuts = Cuts(100, "b" * 64, (CutLimit(30, 0.4), CutLimit(5, 0.1)))
    made = Certificate("max-error", 0.02, 0.9, 500, 1, "a" * 64, "uniform threshold", "", cuts)
    assert made.limit_of_call(0, "test") == ("max-error", 0.02, 0.9)
    assert made.limit_of_call(2, "end") == ("max-error", 0.02, 0.9)
    assert made.limit_of_call(0, "deadline") == ("max-error", 0.4, 0.9)
    assert made.limit_of_call(1, "deadline") == ("max-error", 0.1, 0.9)
    assert replace(made, cuts=None).limit_of_call(1, "deadline") is None
    assert str(made.limit_of_call(1, "deadline")) == (
        "at most 10 % of the samples are answered wrong, sure to 90 %"
    )
