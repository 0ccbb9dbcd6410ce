from __future__ import annotations

import numpy as np
import pytest

from skipc.runtime import ChoiceError, Dimension, InputError, TensorSpec
from skipc.runtime.call.arrays import InputChecker

IMAGES = TensorSpec("images", "float32", (1, 3, 4, 4))
IDS = TensorSpec("ids", "int64", ("N", 8))
MASK = TensorSpec("mask", "bool", ("N", 8))
BATCH = (Dimension("N", 1, 2, 4),)


@pytest.fixture
def images():
    return InputChecker([IMAGES], ())


@pytest.fixture
def text():
    return InputChecker([IDS, MASK], BATCH)


def _text(batch=2, mask_batch=None):
    mask_batch = batch if mask_batch is None else mask_batch
    return {"ids": np.zeros((batch, 8), np.int64), "mask": np.ones((mask_batch, 8), np.bool_)}


def test_check_takes_one_array_or_a_dict_and_copies_nothing(images):
    array = np.zeros((1, 3, 4, 4), np.float32)
    assert images.check(array)["images"] is array
    assert images.check({"images": array})["images"] is array


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_check_takes_every_batch_of_the_range(text, batch):
    given = _text(batch)
    assert text.check(given) == given


def test_check_takes_arrays_that_are_not_contiguous(images):
    array = np.zeros((4, 4, 3, 1), np.float32).transpose(3, 2, 0, 1)
    assert images.check(array)["images"] is array


def test_check_takes_subclasses_of_ndarray(images, tmp_path):
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(1, 3, 4, 4))
    assert images.check(mapped)["images"] is mapped


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[0.0]], r"'images' is a list, expected a numpy array"),
        (None, r"'images' is a NoneType"),
        (np.float32(1), r"'images' is a float32, expected a numpy array"),
        (np.zeros((1, 3, 4, 4)), r"is float64, expected float32.*\.astype\(np\.float32\)"),
        (np.zeros((1, 3, 4, 4), np.uint8), r"is uint8, expected float32"),
        (np.zeros((1, 3, 4, 4), ">f4"), r"not in this machine's byte order"),
        (np.zeros((1, 3, 4, 4), ">f8"), r"is >f8, expected float32"),
        (np.zeros((3, 4, 4), np.float32), r"shape \(3, 4, 4\), expected \(1, 3, 4, 4\)\."),
        (np.zeros((2, 3, 4, 4), np.float32), r"shape \(2, 3, 4, 4\), expected \(1, 3"),
        (np.ma.masked_array(np.zeros((1, 3, 4, 4), np.float32)), r"masked array; fill it"),
        ({}, r"input 'images' is missing"),
        ({"image": np.zeros(1)}, r"no input 'image'. Did you mean 'images'"),
        ({"images": np.zeros((1, 3, 4, 4), np.float32), 7: 1}, r"no input 7"),
    ],
)
def test_check_refuses_what_does_not_fit(images, given, message):
    with pytest.raises(InputError, match=message):
        images.check(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_text(5), r"'ids' has the shape \(5, 8\), expected \(N, 8\) with N from 1 to 4"),
        (_text(0), r"\(0, 8\), expected \(N, 8\) with N from 1 to 4"),
        (_text(2, 3), r"'ids' and 'mask' differ in N: 2 and 3"),
        ({"ids": _text()["ids"]}, r"'mask' is missing. Expected an array for each of \['ids'"),
        (_text()["ids"], r"has 2 inputs, found one ndarray. Expected a dict"),
        ({**_text(), "mask": np.ones((2, 8), np.int8)}, r"int8, expected bool.*np\.bool_\)"),
    ],
)
def test_check_refuses_what_does_not_fit_several_inputs(text, given, message):
    with pytest.raises(InputError, match=message):
        text.check(given)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_refuses_values_that_are_not_finite_when_told_to(value):
    array = np.zeros((1, 3, 4, 4), np.float32)
    array[0, 1, 2, 3] = value
    assert InputChecker([IMAGES], (), "pass").check(array)["images"] is array
    with pytest.raises(InputError, match="'images' holds NaN or infinity"):
        InputChecker([IMAGES], (), "raise").check(array)


def test_check_of_finite_values_passes_when_told_to_look():
    InputChecker([IDS, MASK], BATCH, "raise").check(_text())


def test_nan_policy_names_its_choices():
    with pytest.raises(
        ChoiceError, match=r"nan='rase' is not a policy\. Did you mean 'raise'"
    ):
        InputChecker([IMAGES], (), "rase")


def test_dimensions_are_those_that_shapes_name():
    with pytest.raises(ChoiceError, match=r"free dimensions \['N'\], but .* of \['T'\]"):
        InputChecker([IDS], (Dimension("T", 1, 2, 4),))


def test_a_dimension_has_one_size_within_an_input_too():
    square = InputChecker([TensorSpec("x", "bool", ("T", "T"))], (Dimension("T", 2, 2, 6, 2),))
    assert square.sizes(square.check(np.zeros((4, 4), np.bool_))) == (4,)
    with pytest.raises(InputError, match=r"input 'x' differs in T: 4 and 6"):
        square.check(np.zeros((4, 6), np.bool_))
    with pytest.raises(InputError, match=r"\(T, T\) with T from 2 to 6 in steps of 2"):
        square.check(np.zeros((5, 5), np.bool_))


def test_sample_fits_at_the_typical_batch(text):
    sample = text.sample()
    assert sample["ids"].shape == (2, 8)
    text.check(sample)


def test_one_dimensional_shape_is_written_as_a_tuple():
    checker = InputChecker([TensorSpec("x", "float32", (3,))], ())
    with pytest.raises(InputError, match=r"expected \(3,\)\."):
        checker.check(np.zeros(2, np.float32))


def test_scalar_input_is_an_array_of_rank_0():
    checker = InputChecker([TensorSpec("x", "float32", ())], ())
    assert checker.check(np.zeros((), np.float32))["x"].shape == ()
