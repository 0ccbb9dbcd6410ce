"""An engine that chooses power modes: points change with the mode, and calls go on."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

import numpy as np
import pytest

from skipc.runtime import (
    AdaptiveEngine,
    Budget,
    BudgetError,
    ChoiceError,
    FakeClock,
    TensorSpec,
)
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.call.in_modes import ControllerInModes
from skipc.runtime.call.lifetime import InFlight
from skipc.runtime.call.mode_changer import RETRY_S, ModeChanger
from skipc.runtime.call.orders import Orders
from skipc.runtime.call.trace import read_trace, trace_lines, trace_of
from skipc.runtime.errors import EngineError, ModeError
from skipc.runtime.governor import before_choice, decide, first_state
from skipc.runtime.governor.modes import Mode, first_modes
from tests.runtime.governor.families import FAMILY

INPUT, OUTPUT = (TensorSpec(name, "float32", (1,)) for name in "xy")
IMAGE = np.zeros(1, np.float32)
LONGER = {"30W": 1.0, "15W": 1.5}
POWERS = {"30W": 1.0, "15W": 0.4}
MODES = tuple(
    Mode(
        name,
        tuple(
            replace(
                point,
                p50_ms=point.p50_ms * longer,
                p95_ms=point.p95_ms * longer,
                p99_ms=point.p99_ms * longer,
                energy_mj=point.energy_mj * longer * POWERS[name],
            )
            for point in FAMILY
        ),
        dict.fromkeys(LONGER, 100.0),
    )
    for name, longer in LONGER.items()
)


class Board:
    """An actuator of a board that changes at once; ``meanwhile`` is called within a change."""

    names = ("30W", "15W")

    def __init__(self, now="30W"):
        self.now, self.first = now, now
        self.done = []
        self.fails = None
        self.meanwhile = lambda: None

    def change(self, name):
        self.meanwhile()
        self.done.append(name)
        if self.fails:
            raise self.fails("nvpmodel ended with 1")
        self.now = name

    def power_mode(self):
        return f"told {self.now}"

    def close(self):
        self.now = self.first
        self.done.append("closed")


def changer_of(board, modes=MODES):
    return ModeChanger(board, modes, {mode.name: f"told {mode.name}" for mode in modes})


class Opened:
    """An engine on a clock that its calls move, in the modes of a board."""

    def __init__(self, board=None, modes=MODES, budget=None, fails=lambda: False):
        self.clock, self.board = FakeClock(), board
        self.changer = None if board is None else changer_of(board, modes)
        self.slower = 1.0

        def script(point):
            def took(_):
                if fails():
                    raise EngineError("broken")
                longer = 1.0 if board is None else LONGER[board.now]
                return point.p50_ms * longer * self.slower

            return took

        scripts = {point.configuration: script(point) for point in FAMILY}
        backend = NullBackend(scripts, {"y": IMAGE}, self.clock)
        points = FAMILY if self.changer is None else self.changer.points
        self.engine = AdaptiveEngine(
            points, [INPUT], backend, budget=budget, clock=self.clock, warm_up_runs=0,
            ranked_by="accuracy", modes=self.changer,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.engine.close()

    def calls(self, count, pause_ms=20.0):
        for _ in range(count):
            self.engine(IMAGE)
            self.clock.advance_ms(pause_ms)
            if self.changer is not None:
                self.changer.look()
        return self.engine.last


def test_it_changes_into_the_cheaper_mode_after_the_dwell_and_back_at_once():
    board = Board()
    with Opened(board, budget=Budget(latency_ms=20.0, min_accuracy=0.95)) as opened:
        assert opened.calls(10).mode == "30W"
        last = opened.calls(100)
        assert (last.mode, last.configuration, board.done) == ("15W", "full", ["15W"])
        assert last.energy_mj == pytest.approx(48.0)
        opened.slower = 1.6  # 19.2 ms are typical in 15W, and some calls would be late
        assert opened.calls(8).mode == "30W"
        stats = opened.engine.stats().modes
        assert (stats.mode, stats.changes, stats.failure) == ("30W", 2, "")
        assert stats.mode_s["15W"] > 1
        assert sum(stats.mode_s.values()) == pytest.approx(
            opened.clock.now_ns() / 1e9, abs=0.1
        )
    assert board.done == ["15W", "30W", "closed"]


def test_traces_carry_the_mode(tmp_path):
    with Opened(Board()) as opened:
        opened.calls(150)
        engine = opened.engine
        trace = trace_of("board", engine.stats(), engine.trace())
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(trace_lines(trace)))
    modes = [call.mode for call in read_trace(path).calls]
    assert (modes[0], modes[-1]) == ("30W", "15W")


def test_with_one_mode_every_call_is_as_without():
    budget, records = Budget(latency_ms=9.0), []
    for board in (None, Board()):
        with Opened(board, MODES[:1], budget) as opened:
            for factor in (1.0, 1.7, 1.0, 1.3):
                opened.slower = factor
                opened.calls(40)
            records.append(
                [
                    replace(record, decision=replace(record.decision, mode=""))
                    for record in opened.engine.trace()
                ]
            )
    assert records[0] == records[1]


def test_what_runs_is_what_is_decided_of_the_points_of_the_mode_in_force():
    random, budget = np.random.default_rng(0), Budget(latency_ms=9.0)
    named = {point.configuration: point for point in FAMILY}
    orders = Orders(named, "accuracy", True, budget)
    parts = first_modes(MODES, "30W", False, None), named, first_state(FAMILY), orders
    control = ControllerInModes(MODES, *parts, InFlight())
    now_ns, kept = 0, 0
    for step in range(600):
        if step % 50 == 10:
            control.begin_change("15W" if control.mode == "30W" else "30W", now_ns)
        elif step % 50 == 14:
            control.end_change(now_ns)
        state = before_choice(control.state, budget, now_ns / 1e9, 0.0)
        expected = decide(tuple(control.points.values()), budget, state, now_ns / 1e9)
        begun = control.begin(now_ns)
        kept += begun.latency is not None
        latency_ms = control.points[begun.configuration].p50_ms * random.uniform(0.98, 1.02)
        now_ns += round(latency_ms * 1e6)
        before = control.state.latency
        control.end(begun, now_ns, latency_ms)
        learnt = control.state.latency is not before
        assert learnt == (begun.decision.note == "")
        found = replace(control.last.decision, mode="", note="", loading=False)
        assert found == expected
    assert kept > 300
    with pytest.raises(ChoiceError, match="what it takes in each of them is not known"):
        control.add(FAMILY[0])


def test_calls_go_on_while_it_changes_as_in_the_slower_mode():
    board = Board()
    with Opened(board, budget=Budget(latency_ms=20.0)) as opened:
        engine, meanwhile = opened.engine, []

        def call():
            learnt = engine.stats().slowdown
            engine(IMAGE)
            assert engine.stats().slowdown == learnt
            meanwhile.append(engine.last)

        board.meanwhile = call
        opened.calls(120)
        opened.slower = 1.6
        opened.calls(20)
        assert [record.mode for record in meanwhile] == ["15W", "15W"]
        assert "changes into the mode '30W'" in meanwhile[1].reason


@pytest.mark.parametrize("error", [ModeError, OSError])
def test_an_actuator_that_fails_is_told_once_and_the_mode_stays(error, caplog):
    board = Board()
    board.fails = error
    with caplog.at_level(logging.WARNING), Opened(board) as opened:
        assert opened.calls(200).mode == "30W"
        stats = opened.engine.stats().modes
        assert (stats.mode, stats.changes) == ("30W", 0)
        assert "nvpmodel ended with 1" in stats.failure
        assert opened.engine.stats().slowdown == pytest.approx(1.0)
        assert board.done == ["15W"]
        opened.calls(int(1.5 * RETRY_S), pause_ms=1000.0)
        assert board.done == ["15W", "15W"]
        board.fails = None
        assert opened.calls(int(2 * RETRY_S), pause_ms=1000.0).mode == "15W"
        assert opened.engine.stats().modes.failure == ""
    assert caplog.text.count("the mode stays '30W': nvpmodel ended with 1") == 1


def test_a_mode_that_is_told_otherwise_than_it_was_measured_is_said_once(caplog):
    board = Board()
    board.power_mode = lambda: "otherwise"
    with caplog.at_level(logging.WARNING), Opened(board) as opened:
        opened.calls(150)
    assert caplog.text.count("was measured as 'told 15W', and is 'otherwise' now") == 1


def test_where_another_mode_is_in_force_the_fastest_begins():
    board = Board(now=None)
    with Opened(board) as opened:
        assert opened.calls(1).mode == "30W"
    assert board.done == ["30W", "closed"]


def test_a_change_under_way_is_waited_for_before_the_mode_comes_back():
    board, began, go_on = Board(), threading.Event(), threading.Event()

    def wait():
        began.set()
        assert go_on.wait(10)

    board.meanwhile = wait
    opened = Opened(board)
    opened.calls(120, pause_ms=0.0)
    opened.clock.advance_ms(2500.0)
    opened.changer.start()
    for _ in range(200):
        opened.engine(IMAGE)
        if began.wait(0.02):
            break
    closing = threading.Thread(target=opened.engine.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    go_on.set()
    closing.join(10)
    assert board.done == ["15W", "closed"]


def test_an_exception_in_a_call_leaves_the_modes_alone():
    board, broken = Board(), []
    with Opened(board, fails=lambda: bool(broken)) as opened:
        opened.calls(120)
        broken.append(True)
        for _ in range(3):
            with pytest.raises(EngineError):
                opened.engine(IMAGE)
            opened.changer.look()
        broken.clear()
        assert opened.calls(3).mode == "15W"
        assert opened.engine.last.failure == ""


def test_what_fails_to_open_brings_the_mode_back():
    board = Board(now=None)
    with pytest.raises(BudgetError):
        Opened(board, budget=Budget(min_accuracy=2.0))
    assert board.done == ["30W", "closed"]
