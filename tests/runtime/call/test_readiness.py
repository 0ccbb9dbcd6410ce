from __future__ import annotations

from dataclasses import dataclass

import pytest

from skipc.runtime.call.readiness import choose
from skipc.runtime.governor import OperatingPoint, first_state
from skipc.runtime.governor.budget import Budget

POINTS = (
    OperatingPoint("full", 3.0, 30.0, 30.0),
    OperatingPoint("mid", 2.0, 20.0, 20.0),
    OperatingPoint("fast", 1.0, 10.0, 10.0),
)


@dataclass
class Engine:
    loaded: bool
    staying: tuple[str, ...] = ()
    asked: bool = False

    def ready(self) -> bool:
        return self.loaded

    def prepare(self) -> frozenset[str]:
        self.asked = True
        return frozenset(self.staying)

    def run(self, inputs: object) -> dict[str, object]:
        raise AssertionError(inputs)

    def close(self) -> None: ...


def chosen(budget_ms: float | None, pinned: str | None = None, **engines: Engine):
    state = first_state(POINTS)
    return choose(POINTS, Budget(budget_ms), state, 0.0, pinned, None, engines)


def test_what_is_loaded_runs_as_the_governor_decides() -> None:
    choice = chosen(25.0, full=Engine(True), mid=Engine(True), fast=Engine(True))
    assert (choice.decision.configuration, choice.learns) == ("mid", True)


def test_the_best_loaded_one_stands_in_while_the_wanted_one_is_loaded() -> None:
    full = Engine(False, ("fast", "mid"))
    choice = chosen(None, full=full, mid=Engine(True), fast=Engine(True))
    assert (choice.decision.configuration, choice.learns) == ("mid", False)
    assert full.asked
    assert choice.decision.reason.startswith("'full' is being loaded; until then 'mid'")


def test_what_has_to_leave_for_the_wanted_one_does_not_stand_in() -> None:
    full = Engine(False, ("fast",))
    choice = chosen(None, full=full, mid=Engine(True), fast=Engine(True))
    assert (choice.decision.configuration, choice.learns) == ("fast", False)


def test_a_stand_in_over_budget_does_not_run_where_the_wanted_one_would_fit() -> None:
    choice = chosen(15.0, full=Engine(True), mid=Engine(True), fast=Engine(False, ("mid",)))
    assert (choice.decision.configuration, choice.learns) == ("fast", False)
    assert choice.decision.reason.startswith("The call waits while the engine is loaded:")


def test_where_nothing_fits_the_fastest_loaded_one_runs_at_once() -> None:
    choice = chosen(5.0, full=Engine(True), mid=Engine(True), fast=Engine(False, ("mid",)))
    assert (choice.decision.configuration, choice.learns) == ("mid", False)
    assert not choice.decision.feasible


@pytest.mark.parametrize("pinned", ["full", None])
def test_without_room_or_choice_the_call_waits(pinned: str | None) -> None:
    full = Engine(False, ("mid",) if pinned else ())
    choice = chosen(None, pinned, full=full, mid=Engine(True), fast=Engine(True))
    assert (choice.decision.configuration, choice.learns) == ("full", False)
    assert choice.decision.reason.startswith("The call waits")
