from __future__ import annotations

from typing import Any

import pytest

from skipc.runtime import FakeClock, MeterError, open_meter
from skipc.runtime.backends.null import NullBackend
from skipc.tools.trtbench.running.energy import LEAST_STEPS, WINDOWS, measure_energy
from skipc.tools.trtbench.running.loop import Stop, interleave
from skipc.tools.trtbench.running.switching import measure_switches

LATENCIES_MS = {"a": 4.0, "b": 2.0, "c": 1.0}


class Family:
    """Null engines of some configurations, and the order in which they were called."""

    def __init__(self, latencies_ms: dict[str, Any]) -> None:
        self.clock = FakeClock()
        self.order: list[str] = []
        self.cases: list[int] = []
        backend = NullBackend(latencies_ms, self._outputs, self.clock)
        self.engines = {name: backend.load(name) for name in latencies_ms}

    def _outputs(self, configuration: str, inputs: Any) -> dict[str, Any]:
        self.order.append(configuration)
        self.cases.append(inputs.get("case", 0))
        return {}

    def trace(self, stop: Stop, cases: int = 1):
        inputs = [{"case": index} for index in range(cases)]
        return interleave(self.engines, inputs, stop, self.clock.now_ns)


def test_configurations_take_turns_in_orders_that_are_balanced() -> None:
    family = Family(LATENCIES_MS)
    family.trace(Stop(0, 0, 4), cases=2)
    assert "".join(family.order) == "abcbcacabcba"
    assert family.cases == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]


def test_times_are_exact_and_begin_at_the_first_measured_call() -> None:
    calls = Family(LATENCIES_MS).trace(Stop(0, 0, 2)).calls
    assert calls["a"].starts_ns.tolist() == [0, 10_000_000]
    assert calls["b"].starts_ns.tolist() == [4_000_000, 7_000_000]
    assert calls["c"].ends_ns.tolist() == [7_000_000, 10_000_000]
    assert calls["b"].latencies_ms.tolist() == [2, 2]


def test_how_long_it_will_take_is_told_after_the_warm_up() -> None:
    family = Family(LATENCIES_MS)
    expected_s: list[float] = []
    stop = Stop(10, 0.1, 3)
    trace = interleave(family.engines, [{}], stop, family.clock.now_ns, expected_s.append)
    assert expected_s == [pytest.approx(0.7)]  # 100 rounds, since the fastest takes 1 ms
    last_ns = max(calls.ends_ns.max() for calls in trace.calls.values())
    assert last_ns / 1e9 == pytest.approx(0.7)


def test_calls_that_begin_within_warm_up_are_dropped() -> None:
    slow_first = {name: [ms + 5, ms + 5, ms] for name, ms in LATENCIES_MS.items()}
    family = Family(slow_first)
    trace = family.trace(Stop(12, 0, 3))
    assert trace.warm_up_rounds == 2
    assert {name: calls.latencies_ms.tolist() for name, calls in trace.calls.items()} == {
        name: [ms] * 3 for name, ms in LATENCIES_MS.items()
    }
    assert len(family.order) == 3 * 5
    assert trace.calls["a"].starts_ns.min() >= 0


@pytest.mark.parametrize(
    ("stop", "rounds"),
    [
        (Stop(0, 0, 1), 1),
        (Stop(0, 0, 7), 7),
        (Stop(0, 0.020, 7), 20),  # the fastest, 1 ms, needs 20 calls
        (Stop(0, 0.0201, 7), 21),
        (Stop(0, 0.005, 7), 7),
    ],
)
def test_it_stops_when_both_conditions_are_met(stop: Stop, rounds: int) -> None:
    calls = Family(LATENCIES_MS).trace(stop).calls
    assert {len(one.starts_ns) for one in calls.values()} == {rounds}


def test_warm_up_and_measurement_are_bounded_by_rounds() -> None:
    """As with the null target, whose calls may take nanoseconds of its clock."""
    trace = Family(LATENCIES_MS).trace(Stop(1e6, 1e6, 2, most_rounds=5))
    assert trace.warm_up_rounds == 5
    assert {len(one.starts_ns) for one in trace.calls.values()} == {5}


def test_a_clock_that_stands_still_ends_all_the_same() -> None:
    calls = Family({"a": 0.0}).trace(Stop(1e-5, 1e-8, 2)).calls
    assert calls["a"].latencies_ms.tolist() == [1e-6] * 10


def test_the_cost_of_each_switch_is_told_from_steady_calls() -> None:
    def latency_of_c(call: int) -> float:
        return 1.0 if family.order[-1] == "c" else 4.0  # a switch to c costs 3 ms

    family = Family({"a": 4.0, "b": 2.0, "c": latency_of_c})
    found = measure_switches(family.engines, {}, 0, family.clock.now_ns)
    assert found is not None
    assert found.repeats == 3
    assert found.steady_ms == LATENCIES_MS
    assert found.ratios() == {
        "a": {"b": 1, "c": 4},
        "b": {"a": 1, "c": 4},
        "c": {"a": 1, "b": 1},
    }
    assert found.worst() == ("a", "c", 4)
    patient = measure_switches(family.engines, {}, 1e9, family.clock.now_ns)
    assert patient is not None
    assert patient.repeats == 20


def test_a_single_configuration_has_no_switches() -> None:
    family = Family({"a": 1.0})
    assert measure_switches(family.engines, {}, 0, family.clock.now_ns) is None


def test_energy_per_call_is_power_times_latency() -> None:
    family = Family(LATENCIES_MS)
    meter = open_meter("model:5", family.clock)
    found = measure_energy(family.engines, [{}], meter, meter.read, family.clock.now_ns)
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
        measure_energy(family.engines, [{}], meter, lambda: first, family.clock.now_ns)


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

    (energy,) = measure_energy(
        family.engines, [{}], meter, latest, family.clock.now_ns
    ).values()
    assert energy.mean_mj == pytest.approx(5)
