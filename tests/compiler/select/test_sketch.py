"""Data that chose something is found again by 64 hashes, other data is not."""

from __future__ import annotations

import numpy as np
import pytest

from skipc.compiler.errors import SelectError
from skipc.compiler.select.data.sketch import KEPT, check_unseen, sketch_of
from skipc.compiler.select.samples import Samples

RNG = np.random.default_rng(0)
IMAGES = RNG.random((4000, 1, 2, 3), np.float32)
LENGTHS = RNG.integers(0, 9, (4000, 2))


def samples(rows, targets=0):
    inputs = {"x": IMAGES[rows], "n": LENGTHS[rows]}
    return Samples(inputs, np.full(len(IMAGES[rows]), targets))


def refused(sketch, part):
    with pytest.raises(SelectError) as caught:
        check_unseen([part], {"the heads": sketch}, "the bound", "mine.npz")
    return str(caught.value)


def test_the_order_and_the_parts_of_the_samples_do_not_matter():
    whole = sketch_of([samples(slice(1000))])
    order = RNG.permutation(1000)
    assert sketch_of([samples(order[:10]), samples(order[10:], targets=3)]) == whole
    assert len(whole) == 16 * KEPT
    assert sketch_of([samples(slice(1001))]) != sketch_of([samples(slice(5))])


def test_other_samples_are_let_through():
    sketch = sketch_of([samples(slice(1000))])
    check_unseen([samples(slice(1000, 4000))], {"the heads": sketch}, "the bound", "mine.npz")


def test_what_was_seen_is_counted_as_its_share_is():
    sketch = sketch_of([samples(slice(1000))])
    told = refused(sketch, samples(slice(4000)))
    assert told.startswith(
        "--data mine.npz: 64 of 64 samples drawn from those used for the heads are among"
        " those for the bound. What is certified must not have been seen before."
    )
    half = refused(sketch, samples(slice(500, 2000))).split()[2]
    assert 16 < int(half) < 48
    few = refused(sketch_of([samples(slice(5))]), samples(slice(4, 90)))
    assert "1 of 5 samples drawn from those used for the heads is among" in few


def test_nothing_is_known_of_no_sketch():
    check_unseen([samples(slice(9))], {}, "the bound", "mine.npz")
