"""Whatever fails when: calls in flight, counts and records stay right."""

from __future__ import annotations

import logging
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from skipc.runtime import Budget, BudgetError, ClosedError, EngineError, InputError
from skipc.runtime.call import record as record_module
from skipc.runtime.call.record import Tally
from tests.runtime.faulty import POINTS, Script, X, scripted

NAMES = st.sampled_from(["full", "mid", "fast"])
ERRORS = st.sampled_from(
    [
        EngineError("no."),
        ValueError("the application's."),
        InputError("x: wrong."),
        KeyboardInterrupt(),
        None,
    ]
)
DEADLINES = st.one_of(st.none(), st.floats(0.1, 100))
BUDGETS = st.sampled_from(
    [
        Budget(),
        Budget(latency_ms=7),
        Budget(latency_ms=1),
        Budget(energy_mj=40),
        Budget(latency_ms=12, energy_mj=30, power_w=8, window_s=1),
        Budget(energy_j=1, horizon_s=1, min_accuracy=0.92),
    ]
)


class Faults(RuleBasedStateMachine):
    """An engine whose configurations fail when the machine says so."""

    @initialize(strict=st.booleans(), nan=st.sampled_from(["pass", "fall-back"]))
    def open(self, strict, nan):
        logging.disable(logging.CRITICAL)
        self.script = Script()
        self.engine, self.clock = scripted(
            self.script, strict=strict, nan_outputs=nan, ranked_by="accuracy"
        )
        self.given = self.refused = self.raised = 0

    @rule(name=NAMES, error=ERRORS)
    def fails(self, name, error):
        self.script.errors.pop(name, None)
        if error is not None:
            self.script.errors[name] = error

    @rule(name=NAMES, isnan=st.booleans())
    def computes_nan(self, name, isnan):
        self.script.outputs.pop(name, None)
        if isnan:
            self.script.outputs[name] = {"y": X * float("nan")}

    @rule(budget=BUDGETS)
    def grants(self, budget):
        self.engine.budget = budget

    @rule(name=st.one_of(st.none(), NAMES))
    def pins(self, name):
        self.engine.pin(name)

    @rule(name=NAMES)
    def restores(self, name):
        self.engine.restore(name)
        assert name not in self.engine.stats().bad

    @rule(duration_ms=st.floats(0, 1e6))
    def waits(self, duration_ms):
        self.clock.advance_ms(duration_ms)

    @rule(names=st.lists(NAMES, min_size=1, max_size=3), deadline_ms=DEADLINES)
    def calls_while_others_hang(self, names, deadline_ms):
        self.hangs_and_calls(names, deadline_ms)

    def hangs_and_calls(self, names, deadline_ms):
        in_flight, frame = self.engine._runner._in_flight, sys._getframe()
        in_flight.begin(frame).starts(names[0], -(10**15))
        in_flight.look(0, limit_ms=1)
        assert in_flight.hanging()[names[0]] >= 1
        if len(names) > 1:
            self.hangs_and_calls(names[1:], deadline_ms)
        else:
            self.makes_a_call(deadline_ms)
        in_flight.end(frame)

    @rule(deadline_ms=DEADLINES)
    def calls(self, deadline_ms):
        self.makes_a_call(deadline_ms)

    def makes_a_call(self, deadline_ms):
        before = len(self.engine.trace())
        try:
            self.engine(X, deadline_ms)
        except BudgetError:
            self.refused += 1
            assert len(self.engine.trace()) == before
        except (EngineError, ValueError, InputError, KeyboardInterrupt):
            self.raised += 1
            assert all(record.failure for record in self.engine.trace()[before:])
        else:
            self.given += 1
            assert self.engine.last.failure == ""
        # At most one other configuration is tried.
        new = self.engine.trace()[before:]
        assert len(new) <= 2
        assert len({record.configuration for record in new}) == len(new)
        assert not any(record.failure for record in new[1:]) or len(new) == 2

    @invariant()
    def nothing_is_lost(self):
        control, trace = self.engine._control, self.engine.trace()
        stats = self.engine.stats()
        assert self.engine._runner._in_flight.is_alone()
        assert control.health.usable()
        assert stats.calls == self.given
        assert sum(1 for record in trace if not record.failure) == self.given
        assert len(self.script.ran) == len(trace)
        assert set(stats.bad) < {point.configuration for point in POINTS}
        account = control.state.account
        if account is not None and account.budget.energy_mj is not None:
            assert abs(account.energy_mj) <= 32 * account.budget.energy_mj

    def teardown(self):
        logging.disable(logging.NOTSET)
        self.engine.close()
        with pytest.raises(ClosedError):
            self.engine(X)


Faults.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestFaults = Faults.TestCase


def test_only_the_last_records_are_kept(monkeypatch):
    monkeypatch.setattr(record_module, "REMEMBERED_CALLS", 5)
    engine, _ = scripted(Script())
    with engine:
        for _ in range(12):
            engine(X)
        assert len(engine.trace()) == 5
        assert engine.stats().calls == 12


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e4), st.booleans()), max_size=60))
def test_an_episode_is_news_once(calls):
    tally, now_s, news_s = Tally(["full"]), 0.0, []
    budgets = Budget(latency_ms=1), Budget(latency_ms=2)
    for feasible, pause_s, second in calls:
        now_s += pause_s
        if tally.is_news(feasible, budgets[second], now_s):
            assert not feasible
            news_s.append(now_s)
    gaps_s = [after - before for before, after in pairwise(news_s)]
    assert all(gap_s >= record_module.INFEASIBLE_AGAIN_S for gap_s in gaps_s)
    assert tally.infeasible == sum(1 for feasible, *_ in calls if not feasible)
    assert bool(news_s) == (tally.infeasible > 0)
