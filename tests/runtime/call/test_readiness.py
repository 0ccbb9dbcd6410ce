from __future__ import annotations

import pytest

from skipc.runtime.call.readiness import Readiness, choose
from skipc.runtime.governor import Decision, OperatingPoint, first_state
from skipc.runtime.governor.budget import Budget

POINTS = (
    OperatingPoint("full", 3.0, 30.0, 30.0),
    OperatingPoint("mid", 2.0, 20.0, 20.0),
    OperatingPoint("fast", 1.0, 10.0, 10.0),
)


class Graphs:
    """Knows which graphs are loaded, and which stay while another one comes."""

    def __init__(self, *loaded: str, staying: tuple[str, ...] = ()) -> None:
        self.loaded, self.staying = loaded, staying
        self.asked: list[str] = []

    def ready(self, graph: str) -> bool:
        return graph in self.loaded

    def prepare(self, graph: str) -> frozenset[str]:
        self.asked.append(graph)
        return frozenset(self.staying)


def chosen(budget_ms: float | None, graphs: Graphs, pinned: str | None = None) -> Decision:
    state = first_state(POINTS)
    first = {name: f"{name}.0" for name in ("full", "mid", "fast")}
    readiness = Readiness(graphs, first)
    return choose(POINTS, Budget(budget_ms), state, 0.0, pinned, None, readiness)


def test_what_is_loaded_runs_as_the_governor_decides() -> None:
    found = chosen(25.0, Graphs("full.0", "mid.0", "fast.0"))
    assert (found.configuration, found.loading) == ("mid", False)


def test_the_best_loaded_one_stands_in_while_the_wanted_one_is_loaded() -> None:
    graphs = Graphs("mid.0", "fast.0", staying=("fast.0", "mid.0"))
    found = chosen(None, graphs)
    assert (found.configuration, found.loading) == ("mid", True)
    assert graphs.asked == ["full.0"]
    assert found.reason.startswith("'full' is being loaded; until then 'mid'")


def test_what_has_to_leave_for_the_wanted_one_does_not_stand_in() -> None:
    found = chosen(None, Graphs("mid.0", "fast.0", staying=("fast.0",)))
    assert (found.configuration, found.loading) == ("fast", True)


def test_a_stand_in_over_budget_does_not_run_where_the_wanted_one_would_fit() -> None:
    found = chosen(15.0, Graphs("full.0", "mid.0", staying=("mid.0",)))
    assert (found.configuration, found.loading) == ("fast", True)
    assert found.reason.startswith("The call waits while the engine is loaded:")


def test_where_nothing_fits_the_fastest_loaded_one_runs_at_once() -> None:
    found = chosen(5.0, Graphs("full.0", "mid.0", staying=("mid.0",)))
    assert (found.configuration, found.loading) == ("mid", True)
    assert not found.feasible


@pytest.mark.parametrize("pinned", ["full", None])
def test_without_room_or_choice_the_call_waits(pinned: str | None) -> None:
    found = chosen(
        None, Graphs("mid.0", "fast.0", staying=("mid.0",) if pinned else ()), pinned
    )
    assert (found.configuration, found.loading) == ("full", True)
    assert found.reason.startswith("The call waits")


def test_two_configurations_of_one_graph_are_ready_together() -> None:
    readiness = Readiness(Graphs("a", staying=("a",)), {"one": "a", "two": "a", "other": "b"})
    assert readiness.ready("one")
    assert readiness.ready("two")
    assert readiness.prepare("other") == {"one", "two"}
