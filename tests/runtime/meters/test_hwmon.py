from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import FakeClock, MeterError, MeterUnavailableError, open_meter
from skipc.runtime.meters import meter_specs
from skipc.runtime.meters.boards import board_with
from tests import sysfs_trees as trees

TOTALS = {
    "agx_orin": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    "orin_nx": ("VDD_IN",),
    "agx_xavier": trees.XAVIER,
    "agx_xavier_jetpack_4": trees.XAVIER,
    "agx_thor": ("VIN",),
}


def seconds(meter, clock, count, step_ms=20.0):
    """Reads ``count`` seconds at the meter's rate and returns the millijoules."""
    start = meter.read().energy_mj
    for _ in range(round(count * 1000 / step_ms)):
        clock.advance_ms(step_ms)
        end = meter.read()
    return end.energy_mj - start


@pytest.mark.parametrize("first", [0, 7, 30])
@pytest.mark.parametrize("layout", trees.BOARDS, ids=lambda layout: layout.__name__)
def test_the_total_is_the_sum_of_the_outermost_rails(layout, first, tmp_path):
    rails = layout(tmp_path, first)
    total = TOTALS[layout.__name__]
    # A power of two thousand milliwatts each: whichever is summed shows in the result.
    powers = {label: 1000 * 2.0**index for index, label in enumerate(rails.channels)}
    powers.pop("NC", None)
    rails.show(**powers)
    clock = FakeClock()
    meter = open_meter("hwmon", clock, tmp_path)
    expected = sum(powers[label] for label in total)
    assert seconds(meter, clock, 1) == pytest.approx(expected, rel=0.03)
    assert meter.covers.endswith(f"({' + '.join(total)})")
    assert (meter.name, meter.estimated) == ("hwmon", False)


@pytest.mark.parametrize("layout", trees.BOARDS, ids=lambda layout: layout.__name__)
def test_every_rail_is_listed_and_can_be_read_alone(layout, tmp_path):
    rails = layout(tmp_path)
    labels = [label for label in rails.channels if label != "NC"]
    specs = meter_specs("hwmon", tmp_path)
    assert specs[0] == "hwmon"
    assert sorted(specs[1:]) == sorted(f"hwmon:{label}" for label in labels)
    rails.show(**dict.fromkeys(labels, 8000.0))
    for spec in specs[1:]:
        clock = FakeClock()
        meter = open_meter(spec, clock, tmp_path)
        assert meter.name == spec
        assert seconds(meter, clock, 1) == pytest.approx(8000, rel=0.03), spec


@pytest.mark.parametrize("gone", ["curr1_input", "in1_label"])
def test_a_channel_without_label_or_current_is_no_rail(gone, tmp_path):
    rails = trees.Rails(tmp_path)
    folder = rails.ina3221(0, {"A": 5000, "B": 5000, "off": 0})
    (folder / gone).unlink()
    assert meter_specs("hwmon", tmp_path) == ("hwmon:B",)


def test_rails_may_be_named(tmp_path):
    rails = trees.agx_orin(tmp_path)
    rails.show(VDD_GPU_SOC=19_840, VDD_CPU_CV=9920, VIN_SYS_5V0=5000)
    clock = FakeClock()
    meter = open_meter("hwmon:VDD_GPU_SOC+VDD_CPU_CV", clock, tmp_path)
    assert meter.covers == "the power rails VDD_GPU_SOC + VDD_CPU_CV"
    assert seconds(meter, clock, 1) == pytest.approx(29_760, rel=0.001)
    part = open_meter("hwmon:VDDQ_VDD2_1V8AO", clock, tmp_path)
    assert part.covers == "the power rail VDDQ_VDD2_1V8AO, part of VIN_SYS_5V0"
    whole = open_meter("hwmon:VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0", clock, tmp_path)
    assert whole.covers.startswith("the module, not the carrier board")


def test_a_rail_below_zero_counts_as_nothing(tmp_path):
    rails = trees.agx_xavier(tmp_path)
    rails.show(GPU=-392, CPU=4000)
    clock = FakeClock()
    meter = open_meter("hwmon", clock, tmp_path)
    assert seconds(meter, clock, 1) == pytest.approx(4000, rel=0.03)


@pytest.mark.parametrize(
    ("interval", "samples", "period_s"),
    [(7, 1, 0.01), (211, 32, 0.211), (None, 1, 0.01), (None, 64, 0.4224), (0, 1, 0.01)],
)
def test_the_period_is_the_drivers(interval, samples, period_s, tmp_path):
    rails = trees.Rails(tmp_path)
    rails.ina3221(
        0, dict.fromkeys(trees.ORIN_NX, 5000), update_interval=interval, samples=samples
    )
    assert open_meter("hwmon", system=tmp_path).period_s == pytest.approx(period_s)


def test_the_resolution_is_one_step_of_each_shunt_over_a_period(tmp_path):
    trees.agx_orin(tmp_path)
    meter = open_meter("hwmon:VIN_SYS_5V0", system=tmp_path)
    # 40 uV over 2 mOhm are 20 mA; at 4.968 V, 99 mW; over 10 ms.
    assert meter.resolution_mj == pytest.approx(20 * 4.968 * 0.01)
    total = open_meter("hwmon", system=tmp_path)
    assert total.resolution_mj == pytest.approx(20 * (19.84 * 2 + 4.968) * 0.01)


CURVES = {
    "ramp": (lambda t: 5000 + 10_000 * t, 2),
    "falling": (lambda t: 25_000 - 10_000 * t, 2),
    "steps": (lambda t: 20_000 if math.floor(t / 0.5) % 2 else 5000, 8),
    "sine of 1 Hz": (lambda t: 15_000 + 10_000 * math.sin(2 * math.pi * t), 3),
    "sine of 7 Hz": (lambda t: 15_000 + 10_000 * math.sin(2 * math.pi * 7 * t), 5),
    "bursts of 30 ms": (lambda t: 24_000 if t % 0.097 < 0.03 else 4000, 58.2),
}


@pytest.mark.parametrize("name", CURVES)
def test_integration_at_the_sensors_rate_is_true_to_one_percent(name, tmp_path):
    curve, duration_s = CURVES[name]
    rails = trees.orin_nx(tmp_path)
    clock = FakeClock()
    meter = open_meter("hwmon", clock, tmp_path)
    step_ms = 1000 * meter.period_s
    sensor_s = 0.0066  # three channels of 2.2 ms; it shows what its last conversion found
    start = shown = None
    for index in range(round(duration_s / meter.period_s) + 1):
        now_s = index * meter.period_s
        draws = curve(math.floor(now_s / sensor_s + 1e-9) * sensor_s)
        if draws != shown:  # a file is written
            rails.show(VDD_IN=draws)
            shown = draws
        reading = meter.read()
        start = start or reading
        clock.advance_ms(step_ms)
    slices = 30_000
    true_mj = sum(curve((i + 0.5) * duration_s / slices) for i in range(slices))
    true_mj *= duration_s / slices
    assert reading.energy_mj - start.energy_mj == pytest.approx(true_mj, rel=0.01)


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 500), st.integers(-2000, 60_000)), min_size=1, max_size=20
    )
)
def test_energy_never_falls_and_follows_the_trapezoids(tmp_path_factory, steps):
    system = tmp_path_factory.mktemp("sys")
    rails = trees.Rails(system)
    rails.ina3221x(0, "1-0040", trees.ORIN_NX)
    clock = FakeClock()
    meter = open_meter("hwmon", clock, system)
    expected, last_mw, energies = 0.0, None, []
    for passed_ms, power_mw in steps:
        before_ns = clock.now_ns()
        clock.advance_ms(passed_ms)
        rails.show(VDD_IN=power_mw)
        reading = meter.read()
        assert reading.time_ns == clock.now_ns()
        energies.append(reading.energy_mj)
        now_mw = max(0, power_mw)
        if last_mw is not None:
            expected += (last_mw + now_mw) / 2 * (clock.now_ns() - before_ns) * 1e-9
        last_mw = now_mw
    assert energies == sorted(energies)
    assert energies[-1] == pytest.approx(expected, abs=1e-6)


@given(data=st.data(), layout=st.sampled_from(trees.BOARDS))
def test_no_sum_counts_a_rail_twice(tmp_path_factory, data, layout):
    system = tmp_path_factory.mktemp("sys")
    labels = [label for label in layout(system).channels if label != "NC"]
    board = board_with(labels)
    chosen = data.draw(st.lists(st.sampled_from(labels), min_size=1, max_size=6))
    twice = len(set(chosen)) < len(chosen) or any(
        board.rails[label] in chosen for label in chosen
    )
    spec = f"hwmon:{'+'.join(chosen)}"
    if twice:
        with pytest.raises(MeterError, match=r"count it twice|twice\. Name each once"):
            open_meter(spec, system=system)
    else:
        assert open_meter(spec, system=system).name == spec


def test_a_board_that_is_not_known_is_told_with_its_rails(tmp_path):
    rails = trees.Rails(tmp_path)
    rails.ina3221(0, {"MAIN": 12_000, "FAN": 12_000, "off": 0})
    with pytest.raises(MeterUnavailableError, match=r"\('MAIN', 'FAN'\) are of no board"):
        open_meter("hwmon", system=tmp_path)
    assert meter_specs("hwmon", tmp_path) == ("hwmon:MAIN", "hwmon:FAN")
    assert open_meter("hwmon:MAIN", system=tmp_path).covers == "the power rail MAIN"


def test_a_missing_part_of_a_total_is_told(tmp_path):
    rails = trees.Rails(tmp_path)
    labels = {"VDD_GPU": 19_600, "VDD_CPU_SOC_MSS": 19_600, "VIN_SYS_5V0": 5000}
    rails.ina3221(0, labels)
    with pytest.raises(MeterUnavailableError, match=r"look like AGX Thor, .* needs 'VIN'"):
        open_meter("hwmon", system=tmp_path)


def test_mistakes_in_a_spec_are_told(tmp_path):
    trees.orin_nx(tmp_path)
    with pytest.raises(MeterUnavailableError, match=r"rail 'VDD_IM'. Did you mean 'VDD_IN'"):
        open_meter("hwmon:VDD_IM", system=tmp_path)
    with pytest.raises(MeterUnavailableError, match="no power rail ''"):
        open_meter("hwmon:VDD_IN+", system=tmp_path)


def test_no_rails_at_all(tmp_path):
    rails = trees.Rails(tmp_path)
    rails.other(0, "coretemp")
    for spec in ("hwmon", "hwmon:VDD_IN"):
        with pytest.raises(MeterUnavailableError, match="no power rail was found"):
            open_meter(spec, system=tmp_path)


def test_two_rails_of_one_name_are_told_only_when_they_are_meant(tmp_path):
    rails = trees.orin_nx(tmp_path)
    rails.ina3221(8, {"CARRIER": 5000, "VDD_3V3": 3300, "off": 0})
    rails.ina3221(9, {"CARRIER": 5000, "offa": 0, "offb": 0})
    assert open_meter("hwmon", system=tmp_path).covers.endswith("(VDD_IN)")
    with pytest.raises(MeterUnavailableError, match="2 power rails are called 'CARRIER'"):
        open_meter("hwmon:CARRIER", system=tmp_path)


def test_a_sensor_that_stops_and_comes_back(tmp_path):
    rails = trees.orin_nx(tmp_path)
    rails.show(VDD_IN=10_000)
    clock = FakeClock()
    meter = open_meter("hwmon", clock, tmp_path)
    meter.read()
    clock.advance_ms(100)
    file = rails.file("VDD_IN")
    kept = file.read_text()
    for text, told in (("", "holds ''"), ("n/a", "'n/a', expected a whole number")):
        file.write_text(text)
        with pytest.raises(MeterError, match=told):
            meter.read()
    file.unlink()
    with pytest.raises(MeterError, match="No such file"):
        meter.read()
    file.symlink_to(trees.DEAD)
    with pytest.raises(MeterError, match="Input/output error"):
        meter.read()
    file.unlink()
    file.write_text(kept)
    clock.advance_ms(100)
    assert meter.read().energy_mj == pytest.approx(2000, rel=0.01)


def test_a_jump_is_integrated_as_it_was_seen(tmp_path):
    rails = trees.orin_nx(tmp_path)
    rails.show(VDD_IN=5000)
    clock = FakeClock()
    meter = open_meter("hwmon", clock, tmp_path)
    meter.read()
    clock.advance_ms(60_000)  # the machine slept
    rails.show(VDD_IN=15_000)
    assert meter.read().energy_mj == pytest.approx(600_000, rel=0.01)


def test_rights_are_told_with_file_and_remedy():
    with trees.unprivileged() as system:
        rails = trees.orin_nx(system)
        file = rails.file("VDD_IN")
        meter = open_meter("hwmon", FakeClock(), system)
        file.chmod(0)
        for act in (meter.read, lambda: open_meter("hwmon", FakeClock(), system).read()):
            with pytest.raises(MeterUnavailableError) as caught:
                act()
            assert f"{file}: this user may not read it (mode 000)" in str(caught.value)
            assert f"chmod a+r {file}" in str(caught.value)
