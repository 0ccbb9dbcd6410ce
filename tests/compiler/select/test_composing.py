"""Routes through several networks: what their exits answer, put together and taken apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skipc.compiler.policy.answers import Answers
from skipc.compiler.policy.choosing import Chain, best_routes
from skipc.compiler.select.composing import renumbered
from skipc.runtime.bundle.route import Jump, Test
from tests.compiler.policy.synthetic import answers

SEEN = answers(200, count=4)
TESTS = tuple(Test("logits", {"margin": 1.0}, 0.5, 1.0 + n) for n in range(4))


def network(exits, upto_ms):
    """Returns what some of the exits answer, as a network of their own; all have a test."""
    tests = tuple(TESTS[number] for number in exits)
    return Answers.of(SEEN.logits[exits], SEEN.labels, tests, upto_ms)


def test_networks_are_asked_one_after_the_other():
    first, second = network([0, 1], [1.0, 3.0]), network([2, 3], [2.0, 7.0])
    joined = Answers.joined([first, second])
    whole = Answers.of(SEEN.logits, SEEN.labels, TESTS[:3], [1.0, 3.0, 5.0, 10.0], (0, 2))
    for name in ("logits", "upto_ms", "given", "scores"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    assert (joined.tests, joined.starts) == (whole.tests, whole.starts)
    # What ends at an exit does not take what comes after it.
    less = Answers.joined([first.at([0]), second.at([1])])
    np.testing.assert_array_equal(less.upto_ms, [1.0, 8.0])
    np.testing.assert_array_equal(less.scores, whole.scores[:1])
    assert (less.tests, less.starts) == (TESTS[:1], (0, 1))


def test_jumps_lead_to_what_is_left():
    tests = [replace(TESTS[0], jump=Jump(0.1, 3)), *TESTS[1:]]
    kept = renumbered(tests, [0, 1, 3])
    assert [test.jump for test in kept] == [Jump(0.1, 2), None]
    # Beside the next network, or over nothing at all, there is nothing to jump over.
    assert [test.jump for test in renumbered(tests, [0, 3])] == [None]
    assert [test.jump for test in renumbered(tests, [0, 1, 2])] == [None, None]


def test_of_many_chains_the_fastest_is_found():
    def chain(number):
        parts = [answers(200, seed) for seed in range(3)]
        return Chain(
            str(number), *(replace(one, upto_ms=one.upto_ms * (20 - number)) for one in parts)
        )

    chains = [chain(number) for number in range(15)]
    full = 1 - chains[0].selection.wrong[-1].mean()
    (alone,) = best_routes(chains[-1:], full, [0.03])
    (found,) = best_routes(chains, full, [0.03])
    assert found.chain is chains[-1]
    assert found.selection == alone.selection
