from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skipc.runtime.bundle.route import SCORES, Jump, Test
from skipc.runtime.call.tests import goes_to, score

LOGITS = np.log([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]]).astype(np.float32)
UNSURE = np.zeros((1, 4))


def one(name: str, threshold: float = 0.0, **options: float) -> Test:
    return Test("logits", {name: 1.0}, threshold, **options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max-softmax", [0.7, 0.4]),
        ("margin", [0.5, 0.05]),
        ("entropy", [0.7298, 0.9835]),
        ("value", np.log([0.7, 0.4])),
    ],
)
def test_scores_of_known_probabilities(name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(score(one(name), LOGITS), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"), [("max-softmax", 0.25), ("margin", 0.0), ("entropy", 1.0)]
)
def test_who_knows_nothing_is_unsure(name: str, expected: float) -> None:
    assert score(one(name), UNSURE) == pytest.approx([expected])


def test_every_score_that_the_format_names_is_there() -> None:
    for name in SCORES:
        assert score(one(name), LOGITS).shape == (2,)


@given(
    arrays(np.float32, (3, 5), elements=st.floats(-80, 80, width=32)),
    st.sampled_from(["max-softmax", "margin", "entropy"]),
)
def test_scores_are_shares_whatever_the_logits_and_do_not_feel_a_shift(
    logits: np.ndarray, name: str
) -> None:
    found = score(one(name), logits)
    assert ((found >= -1e-12) & (found <= 1 + 1e-12)).all()
    np.testing.assert_allclose(score(one(name), logits.astype(float) + 1000), found, atol=1e-6)


def test_scores_are_weighted_and_the_softmax_is_tempered() -> None:
    both = Test("logits", {"max-softmax": 2.0, "entropy": -1.0})
    expected = 2 * score(one("max-softmax"), LOGITS) - score(one("entropy"), LOGITS)
    np.testing.assert_allclose(score(both, LOGITS), expected)
    hot = score(one("max-softmax", temperature=1e6), LOGITS)
    np.testing.assert_allclose(hot, 1 / 3, atol=1e-5)
    np.testing.assert_array_equal(score(one("value", temperature=2.0), LOGITS), LOGITS[:, 0])


@pytest.mark.parametrize("name", ["max-softmax", "margin", "entropy"])
def test_a_row_alone_scores_to_the_bit_as_among_others(name: str) -> None:
    logits = np.random.default_rng(0).normal(0, 5, (50, 1000)).astype(np.float32)
    together = score(one(name, temperature=1.7), logits)
    alone = [score(one(name, temperature=1.7), row[None])[0] for row in logits]
    np.testing.assert_array_equal(alone, together)


def test_of_dense_answers_the_mean_over_all_places_counts() -> None:
    dense = np.stack([LOGITS, LOGITS[:, ::-1]], axis=2)
    expected = score(one("max-softmax"), LOGITS)
    np.testing.assert_allclose(score(one("max-softmax"), dense), expected)


def test_a_networks_own_score_may_have_no_classes() -> None:
    assert score(one("value"), np.array([0.5, 2.0])).tolist() == [0.5, 2.0]
    assert score(one("max-softmax"), np.array([[3.0]])).tolist() == [1.0]
    assert score(one("margin"), np.array([[3.0]])).tolist() == [1.0]
    assert score(one("entropy"), np.array([[3.0]])).tolist() == [0.0]


def test_a_class_that_cannot_be_does_not_make_the_entropy_nan() -> None:
    assert score(one("entropy"), np.array([[0.0, -np.inf, 0.0]])) == pytest.approx(
        [np.log(2) / np.log(3)]
    )


def test_a_row_is_answered_at_its_threshold_and_goes_on_below() -> None:
    at = float(score(one("max-softmax"), LOGITS)[0])
    assert goes_to(one("max-softmax", at), 2, LOGITS) == [2, 3]


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_row_far_below_jumps() -> None:
    low, high = sorted(score(one("max-softmax"), LOGITS))
    between = Jump((low + high) / 2, 5)
    jumping = replace(one("max-softmax", 2.0), jump=between)
    wanted = [5 if each == low else 3 for each in score(jumping, LOGITS)]
    assert goes_to(jumping, 2, LOGITS) == wanted
    assert goes_to(replace(one("value"), jump=between), 0, np.array([[np.nan]])) == [1]


def test_answers_agree_class_by_class_and_place_by_place() -> None:
    same = one("agreement", 0.5)
    before = LOGITS[:, [0, 2, 1]]
    assert score(same, LOGITS, before).tolist() == [1.0, 1.0]
    assert score(same, LOGITS, -LOGITS).tolist() == [0.0, 0.0]
    assert score(same, LOGITS).tolist() == [0.0, 0.0]
    dense = np.stack([LOGITS, LOGITS, -LOGITS], axis=2)
    np.testing.assert_allclose(score(same, dense, np.stack([LOGITS] * 3, 2)), 2 / 3)
    both = Test("logits", {"margin": 1.0, "agreement": 0.25})
    expected = score(one("margin"), LOGITS) + np.array([0.25, 0.0])
    found = score(both, LOGITS, np.stack([LOGITS[0], -LOGITS[1]]))
    np.testing.assert_allclose(found, expected)
    alone = [score(both, row[None], row[None])[0] for row in LOGITS]
    np.testing.assert_array_equal(alone, score(both, LOGITS, LOGITS))
    assert goes_to(same, 3, LOGITS, np.stack([LOGITS[0], -LOGITS[1]])) == [3, 4]


def test_what_is_no_number_goes_on() -> None:
    assert goes_to(one("value", -1e9), 0, np.array([[np.nan, 1.0]])) == [1]


def test_a_router_sends_each_row_where_its_largest_value_says() -> None:
    router = Test("gate", stages=(0, 2, 3))
    gate = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 5.0], [0.0, 1.0, 1.0]])
    assert goes_to(router, 0, gate) == [0, 3, 2]
