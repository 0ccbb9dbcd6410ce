"""Routes of several stages, on the null backend."""

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
    EngineError,
    FakeClock,
    InputError,
    OperatingPoint,
    TensorSpec,
)
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.certificate import Certificate, CutLimit, Cuts
from skipc.runtime.bundle.route import Jump, Stage, Test
from skipc.runtime.call.chain import Chain, runs_of
from skipc.runtime.load.opening import Family

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

ANY = (Dimension("N", 1, 1, 8),)
INPUTS = (TensorSpec("x", "float32", ("N", 1)),)
OUTPUTS = (TensorSpec("y", "float32", ("N",)),)
HIDDEN = TensorSpec("hidden", "float32", ("N", 1))


class Graph(NamedTuple):
    """What a graph takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


GRAPHS = {
    "first": Graph(INPUTS, (TensorSpec("early", "float32", ("N",)), HIDDEN)),
    "rest": Graph((HIDDEN, TensorSpec("cap", "float32", (2,))), OUTPUTS),
    "large": Graph(INPUTS, OUTPUTS),
}
LATENCY_MS = {"first": 1.0, "rest": 2.0, "large": 8.0}
AT_MOST = {"value": -1.0}
EARLY = Stage("first", answers={"y": "early"}, test=Test("early", AT_MOST, -10.0))
LATE = Stage(
    "rest", {"hidden": "0.hidden"}, {"cap": (2.0, 5.0)}, test=Test("y", AT_MOST, -100.0)
)
ROUTE = (EARLY, LATE, Stage("large"))


class Script:
    """What the graphs compute: x, then 2 x + 5, then 1000 x; notes what ran on which rows."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, list[float]]] = []

    def __call__(self, graph: str, given: Mapping[str, Array]) -> dict[str, Array]:
        rows = given["hidden" if graph == "rest" else "x"][:, 0]
        self.ran.append((graph, rows.tolist()))
        if graph == "first":
            return {"early": rows, "hidden": given["x"]}
        if graph == "rest":
            scale, shift = given["cap"]
            return {"y": scale * rows + shift}
        return {"y": 1000 * rows}

    @property
    def graphs(self) -> list[str]:
        return [graph for graph, _ in self.ran]


def chain(
    route: Sequence[Stage] = ROUTE,
    dimensions: tuple[Dimension, ...] = ANY,
    inputs: Sequence[TensorSpec] = INPUTS,
) -> tuple[Chain, Script, FakeClock]:
    script, clock = Script(), FakeClock()
    backend = NullBackend(LATENCY_MS, script, clock)
    family = Family({"one": route}, OUTPUTS, GRAPHS)
    runs = runs_of(family, inputs, dimensions, family.residency(backend.load), clock.now_ns)
    return runs.chains["one"], script, clock


def rows(*values: float) -> dict[str, Array]:
    return {"x": np.array(values, np.float32)[:, None]}


@pytest.mark.parametrize(
    ("x", "y", "stage"), [(3.0, 3.0, 0), (20.0, 45.0, 1), (60.0, 60_000.0, 2)]
)
def test_a_row_stops_at_the_first_stage_whose_test_it_passes(
    x: float, y: float, stage: int
) -> None:
    made, script, _ = chain()
    assert made.run(rows(x))[:3] == ({"y": np.array([y])}, stage, True)
    assert script.graphs == ["first", "rest", "large"][: stage + 1]


def test_the_rows_of_a_batch_leave_one_by_one_and_answer_as_alone() -> None:
    made, script, _ = chain()
    outputs, stage, alike, _, route, *_ = made.run(rows(60, 3, 20, 4))
    assert outputs["y"].tolist() == [60_000, 3, 45, 4]
    assert (stage, alike) == (2, False)
    assert route == ("large", "first", "rest", "first")
    # All rows pass a stage before one goes on.
    assert script.ran == [
        *(("first", [x]) for x in (60, 3, 20, 4)),
        *(("rest", [x]) for x in (60, 20)),
        ("large", [60]),
    ]


def test_a_batch_whose_rows_stop_together_says_so() -> None:
    made, _, _ = chain()
    assert made.run(rows(20, 30))[1:] == (1, True, "test", ("rest", "rest"), {}, 1.0)


@pytest.mark.parametrize("batch", [(), (Dimension("N", 2, 2, 4),)])
def test_a_batch_that_cannot_be_taken_apart_goes_on_until_no_row_wants_to(
    batch: tuple[Dimension, ...],
) -> None:
    fixed = (TensorSpec("x", "float32", (2, 1)),)
    made, script, _ = chain(dimensions=batch, inputs=INPUTS if batch else fixed)
    outputs, stage, alike, _, route, *_ = made.run(rows(3, 20))
    assert outputs["y"].tolist() == [11, 45]
    assert (stage, alike, route) == (1, True, ("rest",))
    assert script.ran == [("first", [3, 20]), ("rest", [3, 20])]


def test_a_router_jumps_to_the_stage_that_it_names() -> None:
    router = Stage("first", answers={"y": "early"}, test=Test("hidden", stages=(2,)))
    made, script, _ = chain((router, *ROUTE[1:2], ROUTE[2]))
    assert made.run(rows(1.0))[:2] == ({"y": np.array([1000.0])}, 2)
    assert script.graphs == ["first", "large"]


@pytest.mark.parametrize(
    ("x", "graphs"),
    [(3.0, ["first"]), (20.0, ["first", "rest"]), (60.0, ["first", "large"])],
)
def test_a_row_that_jumps_leaves_a_stage_out_and_tells_nothing_of_its_time(
    x: float, graphs: list[str]
) -> None:
    test = Test("early", AT_MOST, -10.0, jump=Jump(-50.0, 2))
    made, script, _ = chain((replace(EARLY, test=test), LATE, ROUTE[2]))
    assert made.run(rows(x)).alike is (graphs[-1] != "large")
    assert script.graphs == graphs


def test_a_stage_that_never_answers_is_no_answer_when_time_is_up() -> None:
    gate = Stage("first", test=Test("hidden", stages=(1,)))
    made, _, clock = chain((gate, Stage("large")))
    outputs, stage, *_ = made.run(rows(1.0), clock.now_ns(), (1.0, 9.0))
    assert (outputs["y"].tolist(), stage) == ([1000], 1)


@pytest.mark.parametrize(
    ("granted_ms", "stage"), [(0.5, 0), (2.9, 0), (3.0, 1), (10.9, 1), (11.0, 2)]
)
def test_a_stage_that_would_end_too_late_is_not_begun(granted_ms: float, stage: int) -> None:
    made, _, clock = chain()
    until_ns = clock.now_ns() + round(granted_ms * 1e6)
    outputs, reached, _, why, *_ = made.run(rows(60.0), until_ns, (1.0, 3.0, 11.0))
    assert (reached, why) == (stage, "end" if stage == 2 else "deadline")
    assert outputs["y"].tolist() == [[60.0], [125.0], [60_000.0]][stage]
    # The first stage always runs: there must be an answer.
    assert clock.now_ns() <= max(until_ns, 10**6)


def test_every_row_has_an_answer_before_one_goes_on_where_time_is_short() -> None:
    made, script, clock = chain()
    until_ns = clock.now_ns() + 5_000_000
    outputs, stage, alike, why, *_ = made.run(rows(60, 60, 60), until_ns, (1.0, 3.0, 11.0))
    assert outputs["y"].tolist() == [125, 60, 60]
    assert (stage, alike, why) == (0, False, "deadline")  # the first that was cut
    assert script.graphs == ["first", "first", "first", "rest"]


def test_all_stages_may_be_run_whatever_the_tests_say() -> None:
    made, _, _ = chain()
    assert [answer["y"].tolist() for answer in made.run_through(rows(3, 4))] == [
        [3, 4],
        [11, 13],
        [3000, 4000],
    ]


def test_a_single_stage_may_be_fed_set_and_renamed() -> None:
    only = Stage("rest", {"hidden": "x"}, {"cap": (3.0, 1.0)})
    made, _, _ = chain((only,))
    assert made.run(rows(1, 2))[:2] == ({"y": pytest.approx([4.0, 7.0])}, 0)


def test_arrays_on_a_gpu_are_refused() -> None:
    made, _, _ = chain()
    with pytest.raises(InputError, match="'x' lies on the GPU, where the tests"):
        made.run({"x": object()})  # type: ignore[dict-item]


def test_a_plain_route_is_what_runs_its_graph() -> None:
    backend = NullBackend(LATENCY_MS, Script())
    family = Family({"one": (Stage("first"),), "two": (Stage("first"),)})
    held = family.residency(backend.load)
    held.load("first")
    runs = runs_of(family, INPUTS, ANY, held, FakeClock().now_ns)
    engine = held._items["first"]
    assert runs.plain == {"one": engine.run, "two": engine.run}
    assert not runs.chains


def test_a_graph_that_gives_more_than_the_family_answers_only_what_is_asked() -> None:
    more = Graph(INPUTS, (*OUTPUTS, HIDDEN))
    backend = NullBackend(
        {"both": 1.0}, {"y": np.ones(1, "f4"), "hidden": np.ones((1, 1), "f4")}
    )
    family = Family({"one": (Stage("both"),)}, OUTPUTS, {"both": more})
    held = family.residency(backend.load)
    runs = runs_of(family, INPUTS, ANY, held, FakeClock().now_ns)
    assert list(runs.chains["one"].run(rows(1.0)).outputs) == ["y"]


POINTS = (
    OperatingPoint("chain", 0.9, 3.0, 9.0, 11.0, upto_ms=(1.0, 3.0, 11.0)),
    OperatingPoint("large", 0.8, 8.0, 8.0),
    OperatingPoint("same", 0.7, 8.0, 8.0),
)
CUTS = Cuts(90, "b" * 64, (CutLimit(30, 0.5), CutLimit(9, 0.2)))
FAMILY = Family(
    {"chain": ROUTE, "large": (Stage("large"),), "same": (Stage("large"),)},
    OUTPUTS,
    GRAPHS,
    certificates={
        "chain": Certificate("max-error", 0.1, 0.9, 90, 2, "a" * 64, "", "", CUTS),
    },
)


class Counting(NullBackend):
    """A null backend that notes what was loaded."""

    def __init__(self, script: Any, clock: FakeClock) -> None:
        super().__init__(LATENCY_MS, script, clock)
        self.loaded: list[str] = []

    def load(self, graph: str) -> Any:
        self.loaded.append(graph)
        return super().load(graph)


def engine_of(
    script: Any, clock: FakeClock, **options: Any
) -> tuple[AdaptiveEngine, Counting]:
    backend = Counting(script, clock)
    made = AdaptiveEngine(
        POINTS, INPUTS, backend, dimensions=ANY, clock=clock, family=FAMILY, **options
    )
    return made, backend


def test_an_engine_runs_routes_and_its_records_say_where_calls_stopped() -> None:
    script, clock = Script(), FakeClock()
    made, backend = engine_of(script, clock, warm_up_runs=1)
    with made:
        assert backend.loaded == ["first", "rest", "large"]  # each graph once
        assert script.graphs == ["first", "rest", "large", "large", "large"]
        for x, stage, ms in ((3.0, 0, 1.0), (20.0, 1, 3.0), (60.0, 2, 11.0)):
            made(rows(x)["x"])
            assert made.last is not None
            assert made.last.configuration == "chain"
            assert (made.last.stage, made.last.latency_ms) == (stage, pytest.approx(ms))
            assert made.last.stopped_by == ("end" if stage == 2 else "test")
        made.pin("same")
        made(rows(1.0)["x"])
        assert made.last.stage == 0


def test_an_early_stop_is_not_learnt_as_a_faster_device() -> None:
    script, clock = Script(), FakeClock()
    made, _ = engine_of(script, clock)
    with made:
        for x in (3.0, 60.0, 3.0, 20.0) * 20:
            made(rows(x)["x"])
        assert made.stats().slowdown == pytest.approx(1.0)
        before = made._control.state.latency
        made(rows(3.0, 60.0)["x"])  # its rows stop at different stages: it teaches nothing
        assert made._control.state.latency is before


def test_a_stage_that_fails_fails_the_call_and_another_configuration_runs() -> None:
    def broken(graph: str, given: Mapping[str, Array]) -> dict[str, Array]:
        if graph == "rest":
            raise EngineError("graph 'rest': out of order.")
        return Script()(graph, given)

    made, _ = engine_of(broken, FakeClock(), warm_up_runs=0)
    with made:
        assert made(rows(3.0)["x"]).tolist() == [3]
        assert made(rows(60.0)["x"]).tolist() == [60_000]
        assert "out of order" in made.stats().bad["chain"]


def test_a_stage_that_cannot_be_loaded_is_named_with_its_configuration() -> None:
    clock = FakeClock()
    backend = NullBackend({"first": 1.0, "large": 1.0}, Script(), clock)
    with pytest.raises(
        EngineError, match=r"configuration 'chain' could not be loaded: .*graph 'rest'"
    ):
        AdaptiveEngine(POINTS, INPUTS, backend, dimensions=ANY, clock=clock, family=FAMILY)


def test_a_route_is_ready_with_its_first_stage_and_the_others_are_loaded_meanwhile() -> None:
    script, clock = Script(), FakeClock()
    sizes = {"first": 10, "rest": 10, "large": 80}
    family = Family(FAMILY.routes, OUTPUTS, GRAPHS, sizes, limit_bytes=90)
    backend = Counting(script, clock)
    with AdaptiveEngine(
        POINTS, INPUTS, backend, dimensions=ANY, clock=clock, family=family, warm_up_runs=0
    ) as made:
        for _ in range(3):
            made.pin("chain")
            assert made(rows(60.0)["x"]).tolist() == [60_000]
            made.pin("large")
            assert made(rows(60.0)["x"]).tolist() == [60_000]
        assert made.stats().residency.evictions > 0


@pytest.mark.parametrize(
    ("granted_ms", "stage", "stopped_by"),
    [(1.5, 0, "deadline"), (4.0, 1, "deadline"), (11.5, 2, "end")],
)
def test_a_hard_budget_stops_a_route_in_time(
    granted_ms: float, stage: int, stopped_by: str
) -> None:
    made, _ = engine_of(Script(), FakeClock())
    with made:
        for budget, asked in (
            (Budget(latency_ms=granted_ms, hard=True), {}),
            (None, {"deadline_ms": granted_ms, "hard": True}),
            (Budget(latency_ms=1.0), {"deadline_ms": granted_ms, "hard": True}),
        ):
            made.budget = budget
            made.pin("chain")
            made(rows(60.0)["x"], **asked)
            assert made.last is not None
            assert (made.last.stage, made.last.stopped_by) == (stage, stopped_by)
            assert made.last.within_budget
            assert made.limit_of(made.last) == ("max-error", (0.5, 0.2, 0.1)[stage], 0.9)
        made.pin("large")
        made(rows(60.0)["x"])
        assert made.limit_of(made.last) is None
        made.pin("chain")
        made(rows(60.0)["x"], deadline_ms=granted_ms)
        assert (made.last.stage, made.last.stopped_by) == (2, "end")


def test_a_route_fits_a_hard_budget_if_its_first_answer_does() -> None:
    made, _ = engine_of(Script(), FakeClock())
    with made:
        made.budget = Budget(latency_ms=2.0, hard=True)
        made(rows(60.0)["x"])
        assert made.last is not None
        assert (made.last.configuration, made.last.feasible) == ("chain", True)
        assert made.last.predicted_ms == pytest.approx(2.0)
        # What fits to its end comes first, however little its route could answer earlier.
        made.budget = Budget(latency_ms=9.0, hard=True)
        made(rows(60.0)["x"])
        assert made.last.configuration == "large"
        made.budget = Budget(latency_ms=0.5, hard=True)
        made(rows(60.0)["x"])
        assert (made.last.feasible, made.last.stage) == (False, 0)


def test_a_hard_budget_knows_the_present_load() -> None:
    clock, slowdown = FakeClock(), 1.0
    scripts = {name: (lambda _, ms=ms: ms * slowdown) for name, ms in LATENCY_MS.items()}
    backend = NullBackend(scripts, Script(), clock)
    made = AdaptiveEngine(POINTS, INPUTS, backend, dimensions=ANY, clock=clock, family=FAMILY)
    with made:
        made.pin("chain")
        made.budget = Budget(latency_ms=5.0, hard=True)
        made(rows(60.0)["x"])
        assert made.last is not None
        assert made.last.stage == 1
        slowdown = 2.0
        for _ in range(4):
            made(rows(60.0)["x"])
        assert (made.last.stage, made.last.within_budget) == (0, True)


@pytest.mark.parametrize("hard", [1, "yes", None])
def test_whether_a_budget_is_hard_is_true_or_false(hard: Any) -> None:
    with pytest.raises(BudgetError, match=r"hard=.*: expected True or False"):
        Budget(latency_ms=1, hard=hard)
    made, _ = engine_of(Script(), FakeClock())
    with made:
        if hard is not None:
            with pytest.raises(BudgetError, match=r"hard=.*: expected True or False"):
                made(rows(1.0)["x"], hard=hard)
