"""What a bundle says of a router, where it says what cannot be."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.records import read
from skipc.runtime.bundle.route import Stage, Test
from skipc.runtime.bundle.routed import Biased, Routed
from skipc.runtime.errors import FormatError
from skipc.runtime.load.points import operating_points
from tests.bundles import write_bundle, write_engines

if TYPE_CHECKING:
    from pathlib import Path

CURVE = [
    {"bias": 0.0, "accuracy": 0.9, "stops": [0.0, 0.25, 0.75]},
    {"bias": 1.0, "accuracy": 0.8, "stops": [0.0, 0.5, 0.5]},
]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ways": ["fast", "fast"]}, "'ways'"),
        ({"ways": []}, "'ways'"),
        ({"curve": []}, "'curve'"),
        ({"curve": CURVE[::-1]}, "has the bias 0 after 1, expected the smallest first"),
        ({"curve": [CURVE[0] | {"stops": [0.5, 0.4, 0.0]}]}, "sums up to 0.9, expected 1"),
        ({"curve": [CURVE[0] | {"accuracy": 1.5}]}, "'accuracy' must be"),
    ],
)
def test_what_means_nothing_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=re.escape(message)):
        read(Routed, {"ways": ["fast", "full"], "curve": CURVE} | change, "here")


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            Test("y", stages=(1, 2), costs=(1.0,)),
            "'costs' has 1 numbers, expected one for each",
        ),
        (Test("y", stages=(1, 2), bias=0.5), "'bias' is 0.5, but there are no 'costs'"),
        (Test("y", {"margin": 1.0}, costs=(1.0,)), "'costs' has 1 numbers"),
    ],
)
def test_costs_that_no_way_has_are_refused(test: Test, message: str) -> None:
    with pytest.raises(FormatError, match=re.escape(message)):
        test.check("here")


def test_a_router_is_of_its_route_and_what_it_names_is_there(tmp_path: Path) -> None:
    write_engines(write_bundle(tmp_path / "toy.skipc"))
    bundle = Bundle.open(tmp_path / "toy.skipc")
    manifest = bundle.manifest
    full = manifest.configuration("full")
    classes = int(manifest.outputs[0].shape[-1])
    test = Test("logits", stages=(1,) * (classes - 1) + (2,))
    route = (Stage("mid", test=test), Stage("fast"), Stage("full"))
    curve = tuple(
        Biased(bias, accuracy, stops)
        for bias, accuracy, stops in ((0.0, 0.9, (0, 0.2, 0.8)), (1.0, 0.8, (0, 0.6, 0.4)))
    )
    short = Routed(("fast", "full"), curve)
    made = replace(full, route=route, stops=(0.0, 0.2, 0.8), routed=short)
    unfit = replace(manifest, configurations=(*manifest.configurations[:-1], made))
    with pytest.raises(
        FormatError, match=f"names 2 ways, expected one for each of the {classes}"
    ):
        unfit.check("here")
    named = replace(short, ways=("fast", "ful", *map(str, range(classes - 2))))
    with pytest.raises(FormatError, match=r"its router: 'ful' is no configuration .* 'full'"):
        replace(
            unfit,
            configurations=(*manifest.configurations, replace(made, name="r", routed=named)),
        ).check("here")
    shorter = replace(named, curve=(Biased(0.0, 0.9, (0.5, 0.5)),))
    with pytest.raises(FormatError, match="has 2 entries, expected one for each of the 3"):
        replace(unfit, configurations=(replace(made, routed=shorter),)).check("here")
    # The governor goes by what the curve's shares take on this device.
    (point,) = operating_points(
        replace(manifest, configurations=(made,)), bundle.engine_set(), 1
    )
    fast_ms, full_ms = point.upto_ms[1:]
    assert [at.mean_ms for at in point.curve] == pytest.approx(
        [0.2 * fast_ms + 0.8 * full_ms, 0.6 * fast_ms + 0.4 * full_ms]
    )
    assert (point.mean_ms, point.first_answer) == (point.curve[0].mean_ms, 1)
    assert made.text() == "by input: fast | full"
    longest = max(manifest.graph("fast").macs, manifest.graph("full").macs)
    assert manifest.macs(made) == manifest.graph("mid").macs + longest
