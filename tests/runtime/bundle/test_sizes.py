"""Sizes that follow from free dimensions, as texts of a manifest."""

from __future__ import annotations

import pytest

from skipc.runtime.bundle.sizes import names_in, size_at


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("T", 17),
        ("T//2", 8),
        ("(T-1)//2+1", 9),
        ("4 * T - -H", 78),
        ("7", 7),
        ("H*(T//16)", 10),
        ("T-H-20", -1),  # no size
        ("T//(H-10)", -1),
        ("S+1", -1),
        ("?", -1),
    ],
)
def test_a_size_is_computed(text, size):
    assert size_at(text, {"T": 17, "H": 10}) == size


def test_a_text_that_is_known_itself_is_that_size():
    assert size_at("(T-1)//2+1", {"(T-1)//2+1": 9}) == 9


def test_names_are_those_of_the_dimensions():
    assert names_in("(T-1)//2+H") == {"T", "H"}
    assert names_in("T//(T-1)") == {"T"}


@pytest.mark.parametrize(
    "text",
    [
        *("", "?", "T**9**9", "T/2", "T%2", "T(1)", "T.bit_length", "T if H else 1", "[T]"),
        *("T;H", "T=1", "__import__('os')", "lambda: T", "(" * 199, "T" * 201, "1.5*T", "T\0"),
    ],
)
def test_what_is_no_size_is_none(text):
    assert names_in(text) is None
    assert size_at(text, {}) == -1
