from __future__ import annotations

import pytest

from skipc.runtime.bundle.route import Stage, Test, check_route, source_of
from skipc.runtime.errors import FormatError

GRAPHS = {
    "whole": (["images"], ["logits"]),
    "first": (["images"], ["early", "hidden"]),
    "rest": (["cap", "hidden"], ["logits"]),
    "gate": (["images"], ["score"]),
}
SURE = Test("early", {"max-softmax": 1.0}, 0.9)
EARLY = Stage("first", answers={"logits": "early"}, test=SURE)
CAP = {"cap": (1.0,)}
LATE = Stage("rest", {"hidden": "0.hidden"}, CAP)


def check(*route: Stage) -> None:
    check_route(route, GRAPHS, ["images"], ["logits"], "here")


@pytest.mark.parametrize(
    "route",
    [
        [Stage("whole")],
        [EARLY, LATE],
        [EARLY, Stage("whole")],
        # A router that answers nothing itself, and one that may.
        [Stage("gate", test=Test("score", stages=(1, 2))), Stage("whole"), Stage("whole")],
        [Stage("whole", test=Test("logits", stages=(0, 1))), Stage("whole")],
    ],
)
def test_a_route_that_can_be_run_is_taken(route: list[Stage]) -> None:
    check(*route)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ([], "here: the route is empty"),
        ([Stage("hole")], r"stage 0 runs the graph 'hole', .* Did you mean 'whole'"),
        ([Stage("whole"), Stage("whole")], "stage 1 is reached by no test"),
        ([EARLY], r"stage 0 goes on to stage 1, expected a later one of 1 \(0 to 0\)"),
        ([Stage("whole", feeds={"image": "images"})], "no input 'image'"),
        ([Stage("whole", feeds={"images": "image"})], "not an input of the family"),
        ([EARLY, Stage("rest", settings=CAP)], "'hidden' is to be 'hidden'"),
        (
            [EARLY, Stage("rest", {"hidden": "1.hidden"}, CAP)],
            "to be '1.hidden', but stage 1",
        ),
        ([EARLY, Stage("rest", {"hidden": "0.hiden"}, CAP)], "stage 0 has no output 'hiden'"),
        (
            [Stage("whole", feeds={"images": "images"}, settings={"images": (1.0,)})],
            "both fed and set",
        ),
        ([Stage("first")], "the answer 'logits' is to be 'logits', which is not an output"),
        ([Stage("whole", answers={"logit": "logits"})], "answers 'logit'"),
        ([Stage("whole", test=Test("logit", {"margin": 1.0}))], "tests 'logit'"),
        ([Stage("whole", test=Test("logits", {"sure": 1.0}))], "tests the score 'sure'"),
        ([Stage("whole", test=Test("logits"))], "either 'scores' or 'stages'"),
        (
            [Stage("whole", test=Test("logits", {"margin": 1.0}, temperature=0.0))],
            "the temperature 0 is not above 0",
        ),
        ([Stage("whole", test=Test("logits", stages=(0, 2))), Stage("whole")], "to stage 2"),
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
