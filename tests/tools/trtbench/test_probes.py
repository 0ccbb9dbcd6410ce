"""Switches and energy: measured after the loop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from skipc.runtime import FakeClock, MeterError, Reading, Sampler, open_meter
from skipc.tools.trtbench.probes import (
    LEAST_STEPS,
    WINDOWS,
    measure_energy,
    measure_switches,
)
from tests.tools.trtbench.test_loop import LATENCIES_MS, Family

if TYPE_CHECKING:
    from skipc.tools.trtbench.report import Energy


def test_the_cost_of_each_switch_is_told_from_steady_calls() -> None:
    def latency_of_c(call: int) -> float:
        return 1.0 if family.order[-1] == "c" else 4.0  # a switch to c costs 3 ms

    family = Family({"a": 4.0, "b": 2.0, "c": latency_of_c})
    found = measure_switches(family.runs, {}, 0, family.clock.now_ns)
    assert found is not None
    assert found.repeats == 3
    assert found.steady_ms == LATENCIES_MS
    assert found.ratios() == {
        "a": {"b": 1, "c": 4},
        "b": {"a": 1, "c": 4},
        "c": {"a": 1, "b": 1},
    }
    assert found.worst() == ("a", "c", 4)
    patient = measure_switches(family.runs, {}, 1e9, family.clock.now_ns)
    assert patient is not None
    assert patient.repeats == 20


def test_a_single_configuration_has_no_switches() -> None:
    family = Family({"a": 1.0})
    assert measure_switches(family.runs, {}, 0, family.clock.now_ns) is None


def energies(family: Family, sampler: Sampler) -> dict[str, Energy]:
    """The energy of a family, its meter read after every call."""

    def polled(run: Any, inputs: Any) -> None:
        run(inputs)
        sampler.poll()

    runs = {name: partial(polled, run) for name, run in family.runs.items()}
    return measure_energy(runs, [{}], sampler, family.clock.now_ns)


def test_energy_per_call_is_power_times_latency() -> None:
    family = Family(LATENCIES_MS)
    found = energies(family, Sampler(open_meter("model:5", family.clock), family.clock))
    for name, energy in found.items():
        assert energy.mean_mj == pytest.approx(5 * LATENCIES_MS[name])
        assert energy.spread_mj == pytest.approx(0, abs=1e-9)
        assert len(energy.windows_mj) == WINDOWS
    windows = [family.order[0]]
    for name in family.order:
        if name != windows[-1]:
            windows.append(name)
    assert "".join(windows) == "abc" * WINDOWS
    assert family.order.count("c") > WINDOWS * LEAST_STEPS  # periods of 1 ms, calls of 1 ms


class ReadRarely:
    """A meter of 5 W that is read every so often, and shows what it was half a ms before."""

    name, period_s, resolution_mj, estimated, covers = "rare", 0.001, 0.001, False, "all"

    def __init__(self, clock: FakeClock, every_ms: float) -> None:
        self._clock, self._every_ns = clock, every_ms * 1e6
        self._latest = Reading(0.0, 0)

    def read(self) -> Reading:
        now_ns = self._clock.now_ns()
        if now_ns - self._latest.time_ns >= self._every_ns:
            time_ns = now_ns - 500_000
            self._latest = Reading(time_ns * 5 / 1e6, time_ns)
        return self._latest

    def close(self) -> None:
        pass


def test_a_meter_that_shows_nothing_new_is_told() -> None:
    family = Family({"a": 500.0})
    still = Sampler(ReadRarely(family.clock, 1e12), family.clock)
    with pytest.raises(MeterError, match="'rare' did not move by 20 of its steps"):
        energies(family, still)


def test_calls_cut_by_a_reading_count_by_their_share() -> None:
    """Readings every 2.5 ms of a meter, calls of 1 ms: windows end within calls."""
    family = Family({"a": 1.0})
    (energy,) = energies(family, Sampler(ReadRarely(family.clock, 2.5), family.clock)).values()
    assert energy.mean_mj == pytest.approx(5)


def test_a_meter_that_cannot_be_read_is_told() -> None:
    family = Family({"a": 1.0})
    sampler = Sampler(ReadRarely(family.clock, 2.5), family.clock)
    sampler.meter.read = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(MeterError, match=r"'rare' cannot be read: .*division by zero"):
        energies(family, sampler)
