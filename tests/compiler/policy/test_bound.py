"""The bound holds as often as it says, where what looks best in a calibration does not."""

from __future__ import annotations

from math import ceil, comb

import numpy as np
import pytest

from skipc.compiler.policy.bound import holds, last_certified, samples_needed

BOUND, SAMPLES, REPEATS, DELTA = 0.05, 360, 500, 0.1
MOST = DELTA * REPEATS + 3 * np.sqrt(REPEATS * DELTA * (1 - DELTA))


def drawn():
    """Yields what each of some policies truly loses, and how many samples of a calibration."""
    rng = np.random.default_rng(0)
    true = np.linspace(0.0, 0.12, 60)
    for _ in range(REPEATS):
        hardness = rng.random(SAMPLES)  # what a safe policy loses, a bolder one loses, too
        yield true, (hardness < true[:, None]).sum(1)


def test_the_bound_is_broken_as_rarely_as_it_says():
    naive = certified = 0
    for true, lost in drawn():
        naive += true[np.flatnonzero(lost <= BOUND * SAMPLES)[-1]] > BOUND
        last = last_certified(lost.tolist(), SAMPLES, BOUND, 1 - DELTA)
        certified += last is not None and true[last] > BOUND
    assert naive >= 0.3 * REPEATS
    assert certified <= MOST


def test_order_and_luck_do_not_matter():
    """Losses that do not rise along the sequence: the first that breaks the bound ends it."""
    rng = np.random.default_rng(1)
    true = np.array([0.01, 0.02, 0.06, 0.01, 0.07, 0.0])
    broken = 0
    for _ in range(REPEATS):
        lost = rng.binomial(SAMPLES, true)
        last = last_certified(lost.tolist(), SAMPLES, BOUND, 1 - DELTA)
        broken += last is not None and true[: last + 1].max() > BOUND
    assert broken <= MOST


def test_the_last_that_passes_is_used():
    assert last_certified([0, 3, 1, 400, 0], 1000, 0.01, 0.9) == 2
    assert last_certified([0, 0], 1000, 0.01, 0.9) == 1
    assert last_certified([11, 0], 1000, 0.01, 0.9) is None


@pytest.mark.parametrize(
    ("failures", "samples", "bound"), [(0, 230, 0.01), (5, 1000, 0.01), (38, 5000, 0.01)]
)
def test_the_binomial_is_exact(failures, samples, bound):
    tail = sum(
        comb(samples, k) * bound**k * (1 - bound) ** (samples - k) for k in range(failures + 1)
    )
    assert holds(failures, samples, bound, 1 - 1.0001 * tail)
    assert not holds(failures, samples, bound, 1 - 0.9999 * tail)


def test_how_many_samples_are_needed():
    assert samples_needed(0.0, 0.01, 0.9) == 230
    assert samples_needed(0.0, 0.01, 0.95) == 299
    assert samples_needed(0.02, 0.02, 0.9) is None
    enough = samples_needed(0.005, 0.01, 0.9)
    assert enough is not None
    assert holds(ceil(0.005 * enough), enough, 0.01, 0.9)
