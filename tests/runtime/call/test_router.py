"""A route whose first stage is a router, on the null backend."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from skipc.runtime import (
    AdaptiveEngine,
    Budget,
    BudgetError,
    Dimension,
    FakeClock,
    OperatingPoint,
    TensorSpec,
)
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.certificate import Certificate
from skipc.runtime.bundle.route import Stage, Test
from skipc.runtime.call.chain import Chain, runs_of
from skipc.runtime.call.tests import goes_to, ways_of
from skipc.runtime.governor.operating_point import OnAverage
from skipc.runtime.load.opening import Family

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]

ANY = (Dimension("N", 1, 1, 8),)
INPUTS = (TensorSpec("x", "float32", ("N", 1)),)
OUTPUTS = (TensorSpec("y", "float32", ("N",)),)


class Graph(NamedTuple):
    """What a graph takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


GRAPHS = {
    "router": Graph(INPUTS, (TensorSpec("scores", "float32", ("N", 3)),)),
    **dict.fromkeys(("small", "mid", "large"), Graph(INPUTS, OUTPUTS)),
}
LATENCY_MS = {"router": 0.5, "small": 1.0, "mid": 4.0, "large": 10.0}
TIMES = {"small": 10, "mid": 100, "large": 1000}
ROUTER = Test("scores", stages=(1, 2, 3), costs=(0.1, 0.4, 1.0))
ROUTE = (Stage("router", test=ROUTER), *map(Stage, ("small", "mid", "large")))
UPTO_MS = (0.5, 1.5, 4.5, 10.5)


class Script:
    """The router is sure of each way as x says: 0.3 of small, 0.6 of mid, 0.9 of large."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, list[float]]] = []

    def __call__(self, graph: str, given: Mapping[str, Array]) -> dict[str, Array]:
        x = given["x"][:, 0]
        self.ran.append((graph, x.tolist()))
        if graph != "router":
            return {"y": TIMES[graph] * x}
        # Easy are small x: all ways are right; hard ones large alone is.
        right = np.stack([1 - x, 1 - x / 2, np.ones_like(x)], 1)
        return {"scores": right.astype(np.float32)}


def chain(dimensions: tuple[Dimension, ...] = ANY) -> tuple[Chain, Script, FakeClock]:
    script, clock = Script(), FakeClock()
    backend = NullBackend(LATENCY_MS, script, clock)
    family = Family({"routed": ROUTE}, OUTPUTS, GRAPHS)
    runs = runs_of(family, INPUTS, dimensions, family.residency(backend.load), clock.now_ns)
    return runs.chains["routed"], script, clock


def rows(*values: float) -> dict[str, Array]:
    return {"x": np.array(values, np.float32)[:, None]}


@pytest.mark.parametrize(
    ("bias", "graph"), [(None, "large"), (0.0, "large"), (0.4, "mid"), (1.0, "small")]
)
def test_a_bias_sends_a_row_where_it_costs_less(bias: float | None, graph: str) -> None:
    made, script, _ = chain()
    found = made.run(rows(0.25), bias=bias)
    assert [name for name, _ in script.ran] == ["router", graph]
    assert found.outputs["y"].tolist() == [0.25 * TIMES[graph]]
    assert found[1:] == (list(TIMES).index(graph) + 1, True, "end", (graph,), {}, 1.0)


def test_rows_of_a_batch_go_their_own_ways_together() -> None:
    made, script, _ = chain()
    values = 0.9, 0.02, 0.2, 0.95, 0.04
    found = made.run(rows(*values), bias=0.3)
    sent = ["large", "small", "mid", "large", "small"]
    assert found.route == tuple(sent)
    np.testing.assert_allclose(
        found.outputs["y"],
        [TIMES[g] * np.float32(x) for g, x in zip(sent, values, strict=True)],
    )
    assert [(name, len(given)) for name, given in script.ran] == [
        *(("router", 5), ("small", 2), ("mid", 1), ("large", 2)),
    ]
    assert (found.alike, found.stopped_by) == (False, "end")
    assert made.run(rows(0.9, 0.95), bias=0.3).alike


def test_a_batch_of_fixed_size_goes_the_longest_way_of_its_rows() -> None:
    made, script, _ = chain(dimensions=())
    assert made.run(rows(0.02, 0.9), bias=0.3).route == ("large",)
    assert [name for name, _ in script.ran] == ["router", "large"]


@pytest.mark.parametrize(
    ("left_ms", "graph", "why"),
    [(10.5, "large", "end"), (10.4, "mid", "deadline"), (4.0, "small", "deadline"),
     (0.1, "small", "deadline")],
)  # fmt: skip
def test_a_deadline_keeps_a_router_from_naming_what_would_end_too_late(
    left_ms: float, graph: str, why: str
) -> None:
    made, _, clock = chain()
    until_ns = clock.now_ns() + round(left_ms * 1e6)
    found = made.run(rows(0.9), until_ns, UPTO_MS)
    assert (found.route, found.stopped_by) == ((graph,), why)


def test_what_is_no_number_is_never_picked() -> None:
    nan = np.nan
    scores = np.array(
        [[nan, 0.1, 0.2], [0.3, nan, nan], [nan, nan, nan], [-np.inf, nan, 0.0]], np.float32
    )
    assert ways_of(ROUTER, scores).tolist() == [2, 0, 2, 2]
    assert ways_of(ROUTER, scores, None, (True, True, False)).tolist() == [1, 0, 1, 1]
    assert goes_to(ROUTER, 0, scores) == [3, 1, 3, 3]
    # Of equal ones the first, which is the cheapest.
    assert ways_of(replace(ROUTER, bias=1.0), np.array([[0.1, 0.4, 1.0]])).tolist() == [0]


CURVE = (
    OnAverage(0.0, 0.9, 10.5),
    OnAverage(0.3, 0.85, 5.5),
    OnAverage(1.0, 0.7, 2.0),
)
POINTS = (
    OperatingPoint("routed", 0.88, 4.5, 10.5, 10.5, upto_ms=UPTO_MS, mean_ms=8.0, curve=CURVE,
                   first_answer=1),
    OperatingPoint("small", 0.5, 1.0, 1.0),
    OperatingPoint("large", 0.87, 10.0, 10.0),
)  # fmt: skip
ROUTES = {"routed": ROUTE, "small": (Stage("small"),), "large": (Stage("large"),)}
SHOWN = Certificate("max-drop", 0.1, 0.9, 90, 2, "a" * 64, "", "")


def engine_of(script: Any, clock: FakeClock, **options: Any) -> AdaptiveEngine:
    family = Family(ROUTES, OUTPUTS, GRAPHS, certificates={"routed": SHOWN})
    backend = NullBackend(options.pop("latency_ms", LATENCY_MS), script, clock)
    return AdaptiveEngine(
        POINTS,
        INPUTS,
        backend,
        dimensions=ANY,
        clock=clock,
        family=family,
        ranked_by="accuracy",
        **options,
    )


@pytest.mark.parametrize("slower", [1.0, 1.5])
def test_a_mean_latency_is_met_by_moving_the_bias(slower: float) -> None:
    clock = FakeClock()
    times = {name: slower * ms for name, ms in LATENCY_MS.items()}
    draws = np.random.default_rng(0).random(600)
    with engine_of(Script(), clock, latency_ms=times) as made:
        made.budget = Budget(average_latency_ms=5.0)
        took, biases = [], []
        for x in draws:
            made(rows(x)["x"])
            assert made.last is not None
            took.append(made.last.latency_ms)
            biases.append(made.last.decision.bias)
            assert (made.last.configuration, made.last.feasible) == ("routed", True)
        # Within two points of what was granted, whatever the curve had promised.
        assert np.mean(took) == pytest.approx(5.0, rel=0.02)
        assert 0 < min(biases[100:]) < max(biases) <= 1
        assert made.last.binding == "average latency"
        assert "with its router's bias at" in made.last.reason
        assert made.limit_of(made.last) is None  # shown for the bias as it was
        assert {name for record in made.trace() for name in record.route} == set(TIMES)
        made.budget = None
        made(rows(0.9)["x"])
        assert (made.last.decision.bias, made.limit_of(made.last)) == (None, SHOWN.limit)


@pytest.mark.parametrize(
    ("budget", "ran", "feasible"),
    [
        (Budget(average_latency_ms=20.0), "routed", True),
        (Budget(average_latency_ms=1.2), "small", True),
        (Budget(average_latency_ms=0.2), "small", False),
        (Budget(average_latency_ms=3.0, min_accuracy=0.8), "routed", False),
        (Budget(latency_ms=2.0, average_latency_ms=3.0), "small", True),
    ],
)
def test_what_runs_under_a_mean_latency(budget: Budget, ran: str, feasible: bool) -> None:
    with engine_of(Script(), FakeClock()) as made:
        made.budget = budget
        made(rows(0.9)["x"])
        assert made.last is not None
        assert (made.last.configuration, made.last.feasible) == (ran, feasible)


def test_configurations_without_a_router_take_turns_to_meet_a_mean_latency() -> None:
    clock, names = FakeClock(), ("small", "large")
    family = Family({name: ROUTES[name] for name in names}, OUTPUTS, GRAPHS)
    backend = NullBackend(LATENCY_MS, Script(), clock)
    with AdaptiveEngine(
        POINTS[1:], INPUTS, backend, dimensions=ANY, clock=clock, family=family
    ) as made:
        made.budget = Budget(average_latency_ms=5.5)
        for _ in range(400):
            made(rows(0.5)["x"])
        calls = {each.configuration: each.calls for each in made.stats().configurations}
    assert (10 * calls["large"] + calls["small"]) / 400 == pytest.approx(5.5, rel=0.02)


def test_a_hard_budget_restricts_what_a_router_may_name() -> None:
    with engine_of(Script(), FakeClock()) as made:
        made.pin("routed")
        for limit_ms, graph in ((12.0, "large"), (6.0, "mid"), (2.0, "small")):
            made.budget = Budget(latency_ms=limit_ms, hard=True)
            made(rows(0.9)["x"])
            assert made.last is not None
            assert (made.last.route, made.last.within_budget) == ((graph,), True)
        made.pin(None)
        made.budget = Budget(latency_ms=2.0, hard=True)
        made(rows(0.9)["x"])
        assert made.last.within_budget


def test_a_way_that_was_taken_teaches_what_it_took() -> None:
    clock = FakeClock()
    times = {name: 2 * ms for name, ms in LATENCY_MS.items()}
    with engine_of(Script(), clock, latency_ms=times) as made:
        made.pin("routed")
        for x in (0.9, 0.02, 0.9, 0.3) * 10:
            made(rows(x)["x"])
        assert made.stats().slowdown == pytest.approx(2.0, rel=0.05)


def test_a_mean_latency_stands_alone() -> None:
    with pytest.raises(
        BudgetError, match="average_latency_ms=5 and energy_mj: what one saves"
    ):
        Budget(average_latency_ms=5, energy_mj=3)
    with pytest.raises(BudgetError, match=r"average_latency_ms=0 is not a limit"):
        Budget(average_latency_ms=0)
