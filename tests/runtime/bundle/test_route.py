from __future__ import annotations

from typing import NamedTuple

import pytest

from skipc.runtime.bundle.records import read
from skipc.runtime.bundle.route import Jump, Stage, Test, check_route, source_of
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.errors import FormatError


class Ends(NamedTuple):
    """Where a graph begins and ends."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def spec(name: str, dtype: str = "float32", classes: int = 10) -> TensorSpec:
    return TensorSpec(name, dtype, ("N", classes))


IMAGES, HIDDEN = spec("images"), spec("hidden", classes=64)
CAPS = TensorSpec("cap", "float32", (1,)), TensorSpec("mask", "bool", (2,))
FAMILY = Ends((IMAGES,), (spec("logits"),))
GRAPHS = {
    "whole": FAMILY,
    "first": Ends((IMAGES,), (spec("early"), HIDDEN)),
    "rest": Ends((CAPS[0], HIDDEN), (spec("logits"),)),
    "gate": Ends((IMAGES,), (spec("score", classes=2), spec("sure", classes=1))),
    "half": Ends((spec("images", "float16"),), (spec("logits"),)),
    "few": Ends((IMAGES,), (spec("logits", classes=3),)),
    "masked": Ends((IMAGES, CAPS[1]), (spec("logits"), spec("count", "int8", 1))),
    "grown": Ends((IMAGES, spec("bias")), (spec("logits"),)),
}
SURE = Test("early", {"max-softmax": 1.0}, 0.9)
EARLY = Stage("first", answers={"logits": "early"}, test=SURE)
CAP = {"cap": (1.0,)}
LATE = Stage("rest", {"hidden": "0.hidden"}, CAP)


def jumping(stage: int) -> Stage:
    return Stage("whole", test=Test("logits", {"margin": 1.0}, 0.5, jump=Jump(0.1, stage)))


def check(*route: Stage) -> None:
    check_route(route, GRAPHS, FAMILY, "here")


@pytest.mark.parametrize(
    "route",
    [
        [Stage("whole")],
        [EARLY, LATE],
        [EARLY, Stage("whole")],
        # A router that answers nothing itself, and one that may.
        [Stage("gate", test=Test("score", stages=(1, 2))), Stage("whole"), Stage("whole")],
        [Stage("whole", test=Test("logits", stages=(0, *[1] * 9))), Stage("whole")],
        [Stage("masked", settings={"mask": (True, False)})],
        [jumping(2), Stage("whole", test=Test("logits", {"margin": 1.0})), Stage("whole")],
    ],
)
def test_a_route_that_can_be_run_is_taken(route: list[Stage]) -> None:
    check(*route)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ([Stage("hole")], r"stage 0 runs the graph 'hole', .* Did you mean 'whole'"),
        ([Stage("whole"), Stage("whole")], "stage 1 is reached by no test"),
        ([EARLY], r"stage 0 goes on to stage 1, expected a later one of 1 \(0 to 0\)"),
        ([Stage("whole", feeds={"image": "images"})], "no input 'image'"),
        ([Stage("whole", feeds={"images": "image"})], "not an input of the family"),
        (
            [EARLY, Stage("rest", settings=CAP)],
            "'hidden' is to be 'hidden', which is not an in",
        ),
        (
            [EARLY, Stage("rest", {"hidden": "1.hidden"}, CAP)],
            "to be '1.hidden', but stage 1",
        ),
        ([EARLY, Stage("rest", {"hidden": "0.hiden"}, CAP)], "not an output of that stage"),
        (
            [Stage("whole", feeds={"images": "images"}, settings={"images": (1.0,)})],
            "both fed and set",
        ),
        ([Stage("first")], "the answer 'logits' is to be 'logits', which is not an output"),
        ([Stage("whole", answers={"logit": "logits"})], "answers 'logit'"),
        ([Stage("whole", test=Test("logit", {"margin": 1.0}))], "tests 'logit'"),
        (
            [Stage("whole", test=Test("logits", stages=(2,) * 10)), Stage("whole")],
            "to stage 2",
        ),
        ([Stage("gate", test=Test("score", stages=(1,))), Stage("whole")], "expected 2: one"),
        ([jumping(1), Stage("whole")], "jumps to stage 1, expected one behind the next"),
        ([jumping(2), Stage("whole")], "goes on to stage 2"),
        (
            [Stage("gate", test=Test("sure", {"margin": 1.0})), Stage("whole")],
            r"'sure', which is float32 Nx1. Expected a number for each class",
        ),
        (
            [Stage("whole", test=Test("logits", {"value": 1.0})), Stage("whole")],
            "Expected one number in each row",
        ),
        ([Stage("half")], "that is float32 Nx10, expected float16 Nx10"),
        ([Stage("few")], "the answer 'logits' is to be 'logits': that is float32 Nx3"),
        ([Stage("masked", settings={"mask": (True,)})], "set to 1 numbers, expected 2"),
        ([Stage("masked", settings={"mask": (True, 1.0)})], "to 1.0, which bool cannot hold"),
        ([Stage("grown", settings={"bias": (1.0,) * 10})], "'bias' grows with the batch"),
        ([EARLY, Stage("rest", LATE.feeds, {"cap": (1e39,)})], "float32 cannot hold"),
    ],
)
def test_what_cannot_be_run_is_refused_by_its_place(route: list[Stage], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        check(*route)


def test_a_stage_that_a_router_may_jump_over_feeds_no_later_one() -> None:
    jump = Stage("gate", test=Test("score", stages=(1, 2)))
    with pytest.raises(FormatError, match=r"'1\.hidden', but stage 1 does not always run"):
        check(jump, EARLY, Stage("rest", {"hidden": "1.hidden"}, CAP))


def test_a_feed_names_a_stage_only_with_its_number() -> None:
    assert source_of("0.hidden.x") == (0, "hidden.x")
    assert source_of("images") is None
    assert source_of("x.1") is None


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"output": "logits"}, "either 'scores' or 'stages'"),
        (
            {"output": "a", "scores": {"margin": 1}, "jump": {"below": 0.1, "stage": 2}},
            "from below its 'threshold', 0",
        ),
        ({"output": "logits", "scores": {"margin": 1}, "stages": [1]}, "either 'scores' or"),
        ({"output": "logits", "scores": {"sure": 1.0}}, "unknown key 'sure'"),
        ({"output": "logits", "scores": {"value": 1.0, "margin": 1.0}}, "the whole score"),
        (
            {"output": "logits", "scores": {"margin": 1.0}, "temperature": 0},
            "'temperature' must be a number above zero",
        ),
        ({"output": "logits", "stages": [-1]}, r"'stages\[0\]' must be a whole number of at"),
    ],
)
def test_a_test_that_looks_at_nothing_is_refused(
    test: dict[str, object], message: str
) -> None:
    with pytest.raises(FormatError, match=f"here: .*{message}"):
        read(Stage, {"graph": "whole", "test": test}, "here")
