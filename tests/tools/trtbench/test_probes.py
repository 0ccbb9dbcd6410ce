"""Switches and energy: measured after the loop."""

from __future__ import annotations

import pytest

from skipc.runtime import MeterError, open_meter
from skipc.tools.trtbench.probes import (
    LEAST_STEPS,
    WINDOWS,
    measure_energy,
    measure_switches,
)
from tests.tools.trtbench.test_loop import LATENCIES_MS, Family


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


def test_energy_per_call_is_power_times_latency() -> None:
    family = Family(LATENCIES_MS)
    meter = open_meter("model:5", family.clock)
    found = measure_energy(family.runs, [{}], meter, meter.read, family.clock.now_ns)
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


def test_a_meter_that_shows_nothing_new_is_told() -> None:
    family = Family({"a": 500.0})
    meter = open_meter("model:5", family.clock)
    first = meter.read()
    with pytest.raises(MeterError, match="'model:5' did not move by 20 of its steps"):
        measure_energy(family.runs, [{}], meter, lambda: first, family.clock.now_ns)


def test_calls_cut_by_a_reading_count_by_their_share() -> None:
    """Readings every 2.5 ms of a meter, calls of 1 ms: windows end within calls."""
    family = Family({"a": 1.0})
    meter = open_meter("model:5", family.clock)
    readings = [meter.read()]

    def latest():
        if family.clock.now_ns() - readings[-1].time_ns >= 2.5e6:
            before = meter.read()
            time_ns = before.time_ns - 500_000
            readings.append(type(before)(before.energy_mj - 2.5, time_ns))
        return readings[-1]

    (energy,) = measure_energy(family.runs, [{}], meter, latest, family.clock.now_ns).values()
    assert energy.mean_mj == pytest.approx(5)
