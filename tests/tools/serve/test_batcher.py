from __future__ import annotations

import random

import numpy as np
import pytest

from skipc.runtime import ClosedError, EngineError
from skipc.tools.serve import batcher as batching
from skipc.tools.serve.errors import RequestError
from tests.tools.serve.engines import ACCURACIES, POISON, TAKES_MS, batcher, cost, rows_of


def test_each_request_is_answered_with_its_own_rows_of_one_call():
    made, engine, backend, _ = batcher()
    with engine:
        futures = [made.submit(rows_of(*values)) for values in ([1], [2, 3], [4], [5, 6, 7])]
        assert made.run_next() == 4
        assert backend.calls == [("full", 7)]
        outputs = [future.result().outputs["y"][:, 0].tolist() for future in futures]
    assert outputs == [[2], [4, 6], [8], [10, 12, 14]]
    assert {future.result().rows for future in futures} == {7}


def test_a_call_has_no_more_rows_than_the_network_takes():
    made, engine, backend, _ = batcher()
    with engine:
        for value in range(11):
            made.submit(rows_of(value))
        while made.run_next():
            pass
    assert [rows for _, rows in backend.calls] == [8, 3]


def test_one_row_that_breaks_the_engine_fails_alone():
    made, engine, _, _ = batcher()
    with engine:
        good, bad, other = (made.submit(rows_of(value)) for value in (1, POISON, 2))
        assert made.run_next() == 3
    assert good.result().outputs["y"][0, 0] == 2
    assert other.result().outputs["y"][0, 0] == 4
    assert isinstance(bad.exception(), EngineError)


def test_a_plan_that_fails_leaves_nobody_waiting():
    made, engine, _, _ = batcher(real=True)
    made.start()
    engine.close()  # by mistake, under it
    with pytest.raises(ClosedError):
        made.submit(rows_of(1)).result(60)
    made.close()


def test_a_request_that_was_taken_back_does_not_run():
    made, engine, backend, _ = batcher()
    with engine:
        kept, gone = made.submit(rows_of(1)), made.submit(rows_of(2))
        assert gone.cancel()
        made.run_next()
    assert kept.result().rows == 1
    assert [rows for _, rows in backend.calls] == [1]


def test_a_request_may_say_itself_what_it_is_granted():
    made, engine, backend, _ = batcher(limit_ms=1000.0, most_rows=1)
    with engine:
        made.submit(rows_of(1), latency_ms=4.0)
        made.run_next()
        made.submit(rows_of(1))
        made.run_next()
    assert [name for name, _ in backend.calls] == ["fast", "full"]


def test_a_full_queue_refuses_those_that_are_late_first(monkeypatch):
    monkeypatch.setattr(batching, "MOST_WAITING", 3)
    made, engine, _, clock = batcher(limit_ms=20.0, most_rows=1)
    with engine:
        first = [made.submit(rows_of(value)) for value in range(3)]
        with pytest.raises(RequestError, match="3 requests wait already") as refused:
            made.submit(rows_of(9))
        assert refused.value.status == 503
        clock.advance_ms(30)
        made.run_next()  # finds that all are late, and answers one
        kept = [made.submit(rows_of(value)) for value in (7, 8)]
        while made.run_next():
            pass
    ends = [future.exception() for future in (*first, *kept)]
    assert [type(end) for end in ends].count(RequestError) == 1
    assert not first[0].result().in_time
    assert all(future.result().in_time for future in kept)


def test_those_that_are_late_wait_for_those_that_can_be_in_time():
    made, engine, _, clock = batcher(limit_ms=20.0, most_rows=1)
    with engine:
        late = made.submit(rows_of(1))
        clock.advance_ms(19)
        fresh = made.submit(rows_of(2))
        made.run_next()
        assert fresh.done()
        assert not late.done()
        made.run_next()
    assert fresh.result().in_time
    assert not late.result().in_time


def test_nothing_is_answered_once_the_files_were_changed():
    def check():
        raise RequestError("changed.", 503)

    made, engine, _, _ = batcher(check=check)
    with engine:
        futures = [made.submit(rows_of(value)) for value in (1, 2)]
        made.run_next()
    assert [str(future.exception()) for future in futures] == ["changed.", "changed."]


def test_its_thread_waits_for_more_and_answers_all_before_it_ends():
    made, engine, backend, _ = batcher(wait_ms=60_000.0, real=True)
    with engine:
        made.start()
        assert made.alive
        futures = [made.submit(rows_of(value)) for value in range(9)]
        assert all(future.result(60).rows == 8 for future in futures[:8])
        made.close()  # the ninth waits for others no longer
        assert futures[8].result(0).rows == 1
        with pytest.raises(RequestError, match="shutting down"):
            made.submit(rows_of(1))
    assert [rows for _, rows in backend.calls] == [8, 1]
    assert not made.alive


def _under_load(times, limit_ms, pin=None, most_rows=8, seconds=4):
    """Returns (share in time, mean accuracy) at so many times what the full one sustains."""
    made, engine, _, clock = batcher(limit_ms, most_rows)
    engine.pin(pin)
    per_ms = times * most_rows / (TAKES_MS["full"] * cost(most_rows))
    rng, futures, refused = random.Random(0), [], 0
    comes_ms = rng.expovariate(per_ms)
    end_ms = made.now_ms + 1000 * seconds
    with engine:
        while True:
            while comes_ms <= made.now_ms and comes_ms < end_ms:
                try:
                    futures.append(made.submit(rows_of(1), None, comes_ms))
                except RequestError:
                    refused += 1
                comes_ms += rng.expovariate(per_ms)
            if not made.run_next():
                if comes_ms >= end_ms:
                    break
                clock.advance_ms(comes_ms - made.now_ms + 1e-6)
    answered = [future.result() for future in futures if future.exception() is None]
    in_time = sum(each.in_time for each in answered) / (len(futures) + refused)
    return in_time, np.mean([ACCURACIES[each.configuration] for each in answered])


@pytest.mark.parametrize(("most_rows", "limit_ms"), [(1, 40.0), (8, 100.0)])
def test_under_twice_what_the_full_one_sustains_accuracy_gives_way(most_rows, limit_ms):
    in_time, accuracy = _under_load(2, limit_ms, most_rows=most_rows)
    assert in_time >= 0.97
    half = (ACCURACIES["full"] + ACCURACIES["fast"]) / 2
    assert accuracy >= half
    full, _ = _under_load(2, limit_ms, "full", most_rows)
    assert full < 0.5


def test_at_a_small_load_accuracy_stays():
    in_time, accuracy = _under_load(0.3, 60.0)
    assert in_time >= 0.99
    assert accuracy >= 0.949
