"""Which bits fail: as often as was said, the same for a seed, more for a larger rate."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.compiler.errors import TolerateError
from skipc.compiler.tolerate.error_model import ErrorModel, WeakLines, read_errors
from skipc.compiler.tolerate.patterns import correct, drawn, key_of, moment_of, with_errors

WEAK = """format = "skipc.bit-errors/1"
[weak]
along = "rows"
row_bytes = {}
share = 0.1
of_errors = 0.5
"""
TYPES = ("float32", "float16", "int8", "uint8", "int32")


def failing(key, bits, rate):
    events = drawn(key_of(*key), 5, bits, rate)
    assert (events.times <= moment_of(rate)).all()
    return events.bits


@given(st.integers(0, 2**32), st.floats(0, 0.5), st.integers(1, 3000))
def test_as_many_bits_fail_as_was_said(seed, rate, bits):
    found = failing((seed,), bits, rate)
    assert len(set(found.tolist())) == len(found)
    assert (found >= 0).all()
    assert (found < bits).all()
    # Six standard deviations of the binomial, and a few for rates near 0.
    assert abs(len(found) - rate * bits) <= 6 * sqrt(rate * (1 - rate) * bits) + 6


def test_the_rate_is_exact_on_average():
    for rate in (1e-5, 1e-3, 0.1, 0.5):
        bits = 100_000
        counts = [len(failing((seed,), bits, rate)) for seed in range(20)]
        spread = sqrt(rate * (1 - rate) * bits * len(counts))
        assert abs(sum(counts) - len(counts) * rate * bits) < 4.5 * spread + 1


@given(st.integers(0, 2**32), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_larger_rate_keeps_the_errors(seed, one, other):
    low, high = sorted((one, other))
    more = failing((seed, 7), 4000, high).tolist()
    assert failing((seed, 7), 4000, low).tolist() == more[: len(failing((seed, 7), 4000, low))]
    assert failing((seed, 7), 4000, high).tolist() == more


def test_no_rate_is_no_error():
    assert not len(failing((1,), 10**9, 0.0))
    with pytest.raises(TolerateError, match="more than the 5e\\+07 that are drawn"):
        drawn(key_of(1), 0, 10**12, 0.1)


@given(st.sampled_from(TYPES), st.integers(0, 2**32), st.floats(0, 0.5))
def test_bits_are_those_of_what_is_stored(dtype, seed, rate):
    array = np.frombuffer(np.random.default_rng(seed).bytes(64), dtype)
    bits = failing((seed,), 8 * array.nbytes, rate)
    found = with_errors(array, bits, None)
    before, after = (
        np.unpackbits(a.view(np.uint8), bitorder="little").astype(int) for a in (array, found)
    )
    assert sorted(bits.tolist()) == np.flatnonzero(before != after).tolist()
    assert with_errors(found, bits, None).tobytes() == array.tobytes()
    ones = np.random.default_rng(seed).integers(2, size=len(bits)).astype(bool)
    stuck = np.unpackbits(with_errors(array, bits, ones).view(np.uint8), bitorder="little")
    assert stuck[bits].tolist() == ones.tolist()
    left = np.setdiff1d(np.arange(len(before)), bits)
    assert stuck[left].tolist() == before[left].tolist()


def test_what_is_implausible_becomes_zero():
    array = np.array([np.nan, np.inf, -np.inf, 1e30, -0.5, 0.25, 2.0], np.float32)
    correct(array, np.arange(0, 6 * 32, 32), -0.5, 2.0)
    assert array.tolist() == [0, 0, 0, 0, -0.5, 0.25, 2.0]
    whole = np.array([-128, 5, -128], np.int8)
    correct(whole, np.array([0, 9]), -127, 127)
    assert whole.tolist() == [0, 5, -128]


def test_errors_lie_where_the_model_says():
    weights = np.zeros(32)
    weights[30] = 1.0
    model = ErrorModel(positions={"float32": tuple(weights)})
    bits = np.arange(64)
    assert np.flatnonzero(model.factors("float32", bits, bits, key_of(0))).tolist() == [30, 62]
    assert model.factors("float32", bits, bits, key_of(0)).mean() == pytest.approx(1)
    assert model.factors("int8", bits, bits, key_of(0)).tolist() == [1.0] * 64
    assert model.most_factor == pytest.approx(32)


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_weak_lines_hold_most_errors(along):
    model = ErrorModel(weak=WeakLines(along, 16, share=0.1, of_errors=0.8))
    addresses = np.arange(128 * 600)
    found = model.factors("int8", addresses, addresses, key_of(3)).reshape(600, 128)
    lines = found if along == "rows" else found.T
    assert (lines == lines[:, :1]).all()
    assert sorted({*found.reshape(-1).round(6).tolist()}) == [round(0.2 / 0.9, 6), 8.0]
    assert found.max() <= model.most_factor
    if along == "rows":  # of so many that the share is met
        assert (found[:, 0] == 8).mean() == pytest.approx(0.1, abs=0.05)
    again = model.factors("int8", addresses, addresses, key_of(3))
    assert again.tolist() == found.reshape(-1).tolist()
    assert again.tolist() != model.factors("int8", addresses, addresses, key_of(4)).tolist()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "'format'"),
        ('format = "skipc.bit-errors/1"\nefect = "flip"', "Did you mean 'effect'?"),
        ('format = "skipc.bit-errors/1"\neffect = "stick"', "Did you mean 'stuck'?"),
        ('format = "skipc.bit-errors/1"\n[positions]\nint8 = [1, 2]', "has 2 weights"),
        ('format = "skipc.bit-errors/1"\n[positions]\nint4 = [1]', "Did you mean 'int8'?"),
        ('format = "skipc.bit-errors/1"\n[weak]\nalong = "rows"', "'row_bytes' is missing"),
        ("chip = [", "not valid TOML"),
        ('format = "skipc.bit-errors/1"\nchip = -1', "a whole number of at least 0, found -1"),
        (WEAK.format(2**62), "'row_bytes' must be a whole number of at most 1073741824"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path, text, told):
    path = tmp_path / "errors.toml"
    path.write_text(text)
    with pytest.raises(TolerateError) as caught:
        read_errors(path)
    assert told in str(caught.value)
    assert "errors.toml" in str(caught.value)
