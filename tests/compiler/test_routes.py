"""Where rows stop is the same by the runtime's chain, by the build, and by hand."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from skipc.compiler.routes import stops_of
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.route import Jump, Stage, Test, check_route
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from skipc.runtime.call.chain import runs_of
from skipc.runtime.clock import FakeClock
from skipc.runtime.errors import FormatError
from skipc.runtime.load.opening import Family


class GraphSpec(NamedTuple):
    """What a graph takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


X, Y = TensorSpec("x", "float32", ("N", 4)), TensorSpec("y", "float32", ("N", 4))
OWN = TensorSpec("own", "float32", ("N", 4))
GRAPHS = {name: GraphSpec((X,), (OWN,) if name == "b" else (Y,)) for name in "abcd"}
SAME = {"agreement": 1.0}
ROUTE = (
    Stage("a", test=Test("y", {"max-softmax": 1.0}, 0.75, jump=Jump(0.4, 2))),
    Stage("b", answers={"y": "own"}, test=Test("own", {**SAME, "margin": -0.5}, 0.8)),
    Stage("c", test=Test("y", SAME, 0.5)),
    Stage("d"),
)
LAYERS = dict(zip("abcd", np.random.default_rng(0).normal(size=(4, 4, 4)), strict=True))


def answer(graph, given):
    (name,) = (spec.name for spec in GRAPHS[graph].outputs)
    return {name: (given["x"] @ LAYERS[graph]).astype(np.float32)}


def by_hand(x):
    """Returns the stage that answers a sample, from the definitions."""
    first, second, third, _ = (x @ LAYERS[name] for name in "abcd")

    def probabilities(logits):
        return np.exp(logits) / np.exp(logits).sum()

    sure = probabilities(first).max()
    if sure >= 0.75:
        return 0
    before = first
    if sure >= 0.4:
        *_, less, most = np.sort(probabilities(second))
        if float(second.argmax() == first.argmax()) - 0.5 * (most - less) >= 0.8:
            return 1
        before = second
    return 2 if third.argmax() == before.argmax() else 3


def test_rows_stop_where_the_definitions_say():
    samples = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
    expected = [by_hand(x) for x in samples]
    assert set(expected) == {0, 1, 2, 3}
    family = Family({"one": ROUTE}, (Y,), GRAPHS)
    backend = NullBackend(dict.fromkeys("abcd", 1.0), answer, FakeClock())
    made = runs_of(
        family, (X,), (Dimension("N", 1, 1, 300),), family.residency(backend.load), lambda: 0
    ).chains["one"]
    assert [made.run({"x": x[None]}).stage for x in samples] == expected
    case = [answer(stage.graph, {"x": samples}) for stage in ROUTE]
    shares = np.bincount(expected) / len(expected)
    np.testing.assert_allclose(stops_of(ROUTE, [case]), shares)


@pytest.mark.parametrize(
    ("route", "says"),
    [
        (
            (Stage("a", test=Test("y", SAME, 0.5)), Stage("c")),
            "stage 0 is tested by 'agreement', but no stage that always runs before answers",
        ),
        (
            (
                Stage("a", test=Test("y", {"margin": 1.0}, 0.5)),
                Stage("b", answers={"y": "own"}, test=Test("hidden", SAME, 0.5)),
                Stage("c"),
            ),
            "stage 1 is tested by 'agreement' of 'hidden', which is no answer",
        ),
    ],
)
def test_agreement_wants_two_answers(route, says):
    hidden = TensorSpec("hidden", "float32", ("N", 4))
    graphs = GRAPHS | {"b": GraphSpec((X,), (OWN, hidden))}
    with pytest.raises(FormatError, match=says):
        check_route(route, graphs, GraphSpec((X,), (Y,)), "manifest.json")
