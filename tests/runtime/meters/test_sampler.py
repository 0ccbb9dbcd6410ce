from __future__ import annotations

import gc
import logging
import math
import subprocess
import sys
import weakref
from threading import Event
from threading import enumerate as running_threads

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import FakeClock, MeterError, Reading, Sampler, open_meter
from tests import sysfs_trees as trees

PATIENCE_S = 20


class HandMeter:
    """A meter that a test moves, and that says when it was read and closed."""

    name, covers, estimated = "hand", "the test", False
    resolution_mj, period_s = 1.0, 0.02

    def __init__(self):
        self.energy_mj = 0.0
        self.error = None
        self.reads = 0
        self.was_read = Event()
        self.was_closed = Event()

    def read(self):
        self.reads += 1
        self.was_read.set()
        if self.error is not None:
            raise self.error
        return Reading(self.energy_mj, 7)

    def close(self):
        self.was_closed.set()


def logged(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_poll_keeps_the_reading():
    meter = HandMeter()
    sampler = Sampler(meter)
    assert (sampler.latest, sampler.failure, sampler.age_s()) == (None, "", None)
    meter.energy_mj = 5.0
    assert sampler.poll() == meter.period_s
    assert (sampler.latest, sampler.failure) == (Reading(5.0, 7), "")
    sampler.close()


def test_the_age_is_told_by_the_meters_clock():
    clock = FakeClock()
    sampler = Sampler(open_meter("model:10", clock), clock)
    sampler.poll()
    clock.advance_ms(1500)
    assert sampler.age_s() == pytest.approx(1.5)
    sampler.close()


@pytest.mark.parametrize(("asked", "period_s"), [(None, 0.01), (0.5, 0.5), (0.001, 0.001)])
def test_the_rate_is_the_meters_unless_asked_otherwise(asked, period_s):
    sampler = Sampler(open_meter("model:10"), period_s=asked)
    assert sampler.poll() == period_s
    sampler.close()


@pytest.mark.parametrize("period_s", [0, -1, math.nan, math.inf])
def test_a_period_must_be_above_zero(period_s):
    with pytest.raises(MeterError, match="expected seconds above zero"):
        Sampler(HandMeter(), period_s=period_s)


def test_a_failure_is_kept_logged_once_and_waited_for(caplog):
    meter = HandMeter()
    sampler = Sampler(meter)
    sampler.poll()
    good = sampler.latest
    meter.error = MeterError("in1_input: cannot be read: gone.")
    pauses = [sampler.poll() for _ in range(12)]
    assert pauses[:3] == [0.04, 0.08, 0.16]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0
    assert (sampler.latest, sampler.failure) == (good, "in1_input: cannot be read: gone.")
    assert logged(caplog) == ["meter hand cannot be read: in1_input: cannot be read: gone."]
    meter.error = None
    assert sampler.poll() == 0.02
    sampler.poll()
    assert sampler.failure == ""
    assert logged(caplog)[1:] == ["meter hand is read again"]
    meter.error = OSError("unexpected")
    assert sampler.poll() == 0.04
    assert sampler.failure == "OSError: unexpected"
    assert len(caplog.records) == 3
    sampler.close()


def test_a_slow_meter_is_not_tried_more_often_when_it_fails():
    meter = HandMeter()
    meter.error = MeterError("no.")
    sampler = Sampler(meter, period_s=60)
    assert [sampler.poll() for _ in range(3)] == [60, 60, 60]
    sampler.close()


@given(outcomes=st.lists(st.booleans(), max_size=30))
def test_latest_is_always_the_last_good_reading(outcomes):
    meter = HandMeter()
    sampler = Sampler(meter)
    logger = logging.getLogger("skipc.runtime.meters.sampler")
    logger.disabled = True
    good = None
    for index, outcome in enumerate(outcomes):
        meter.energy_mj = float(index)
        meter.error = None if outcome else MeterError("no.")
        sampler.poll()
        good = Reading(float(index), 7) if outcome else good
        assert sampler.latest == good
        assert (sampler.failure == "") == outcome
    logger.disabled = False
    sampler.close()


def test_a_scripted_board_is_followed_without_a_thread(tmp_path):
    rails = trees.orin_nx(tmp_path)
    clock = FakeClock()
    sampler = Sampler(open_meter("hwmon", clock, tmp_path), clock)
    sampler.poll()
    for second in range(4):
        rails.show(VDD_IN=5000 + 5000 * (second % 2))
        for _ in range(100):
            clock.advance_ms(1000 * sampler.poll())
    assert sampler.latest.energy_mj == pytest.approx(30_000, rel=0.01)
    sampler.close()


def test_a_thread_reads_until_it_is_closed():
    meter = HandMeter()
    sampler = Sampler(meter, period_s=0.001)
    sampler.start()
    sampler.start()
    assert [thread.name for thread in running_threads()].count("meter hand") == 1
    for _ in range(3):
        meter.was_read.clear()
        assert meter.was_read.wait(PATIENCE_S)
    sampler.close()
    assert meter.was_closed.is_set()
    assert "meter hand" not in [thread.name for thread in running_threads()]
    assert sampler.latest == Reading(0.0, 7)
    assert sampler.failure == "it was closed"
    sampler.close()
    with pytest.raises(MeterError, match="sampler of 'hand' was closed"):
        sampler.start()


def test_a_thread_survives_what_the_meter_raises():
    meter = HandMeter()
    meter.error = ZeroDivisionError("a bug")
    sampler = Sampler(meter, period_s=0.001)
    sampler.start()
    assert meter.was_read.wait(PATIENCE_S)
    meter.error = None
    while sampler.latest is None:
        meter.was_read.clear()
        assert meter.was_read.wait(PATIENCE_S)
    sampler.close()


def test_closing_does_not_wait_for_the_next_read():
    meter = HandMeter()
    sampler = Sampler(meter, period_s=3600)
    sampler.start()
    assert meter.was_read.wait(PATIENCE_S)
    sampler.close()
    assert meter.was_closed.is_set()
    assert meter.reads == 1


def test_a_meter_that_never_answers_is_left_behind(caplog, monkeypatch):
    monkeypatch.setattr("skipc.runtime.meters.sampler._PATIENCE_S", 0.01)
    meter = HandMeter()
    answers = Event()

    def read():
        meter.was_read.set()
        answers.wait(PATIENCE_S)
        return Reading(0.0, 7)

    meter.read = read
    sampler = Sampler(meter)
    sampler.start()
    assert meter.was_read.wait(PATIENCE_S)
    (thread,) = [one for one in running_threads() if one.name == "meter hand"]
    sampler.close()
    sampler.close()
    assert not meter.was_closed.is_set()
    assert {text.partition(":")[0] for text in logged(caplog)} == {
        "meter hand does not answer"
    }
    answers.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_forgotten_sampler_ends_its_thread_and_closes_its_meter():
    meter = HandMeter()
    sampler = Sampler(meter, period_s=0.001)
    sampler.start()
    (thread,) = [one for one in running_threads() if one.name == "meter hand"]
    assert meter.was_read.wait(PATIENCE_S)
    gone = weakref.ref(sampler)
    gc.disable()
    try:
        del sampler
        assert meter.was_closed.wait(PATIENCE_S)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert gone() is None
    finally:
        gc.enable()


def test_a_meter_that_cannot_be_closed_is_logged(caplog):
    meter = HandMeter()

    def close():
        raise OSError("stuck")

    meter.close = close
    Sampler(meter).close()
    assert logged(caplog) == ["meter hand could not be closed: stuck"]


FORKED = """
import os, time
from skipc.runtime import Sampler, open_meter
sampler = Sampler(open_meter("model:10"))
sampler.start()
while sampler.latest is None:
    time.sleep(0.001)
child = os.fork()
if child == 0:
    print(sampler.latest, "|", sampler.failure, flush=True)
    sampler.start()
    while sampler.latest is None:
        time.sleep(0.001)
    print(sampler.failure == "", flush=True)
    sampler.close()
    os._exit(0)
os.waitpid(child, 0)
print(sampler.failure == "" and sampler.latest is not None)
"""


def test_a_forked_process_has_no_reading_until_it_starts_its_own():
    # From Python 3.12 on, a fork beside a thread warns.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = done.stdout.splitlines()
    assert first.startswith("None | this process was forked")
    assert (second, third) == ("True", "True")


FORGOTTEN = """
from skipc.runtime import Sampler, open_meter
sampler = Sampler(open_meter("model:10"))
sampler.start()
"""


def test_a_process_ends_though_nobody_closed():
    command = [sys.executable, "-W", "error", "-c", FORGOTTEN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
