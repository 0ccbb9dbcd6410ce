from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import FakeClock, MeterError, MeterUnavailableError, open_meter
from skipc.runtime.meters import meter_specs
from tests import sysfs_trees as trees

ADDED = {"intel-rapl:0": 1_000_000, "intel-rapl:0:2": 200_000, "intel-rapl:1": 3_000_000}


@pytest.fixture
def powercap(tmp_path):
    """Two packages, with all that lies within and around them."""
    made = trees.Powercap(tmp_path)
    made.add("intel-rapl", "not a zone")
    zones = {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1"}
    zones |= {"intel-rapl:0:0": "core", "intel-rapl:0:1": "uncore", "intel-rapl:0:2": "dram"}
    zones |= {"intel-rapl:2": "psys", "intel-rapl-mmio:0": "package-0"}
    for zone, name in zones.items():
        made.add(zone, name)
    return made


def counter(powercap, zone):
    return powercap.system / "class/powercap" / zone / "energy_uj"


def test_packages_and_memory_are_added_and_nothing_else(powercap):
    clock = FakeClock()
    meter = open_meter("rapl", clock, powercap.system)
    assert meter.covers == "the processor (package-0 + dram + package-1)"
    assert (meter.name, meter.estimated) == ("rapl", False)
    assert meter.read().energy_mj == 0
    for folder in (powercap.system / "class/powercap").iterdir():
        trees.write(folder / "energy_uj", ADDED.get(folder.name, 50_000_000))
    clock.advance_ms(1000)
    reading = meter.read()
    assert reading.energy_mj == pytest.approx(4200)
    assert reading.time_ns == 1_000_000_000


@pytest.mark.parametrize("name", ["package-0", "package-1-die-1"])
def test_a_single_package_as_amd_and_dies_show_it(name, tmp_path):
    file = trees.Powercap(tmp_path).add("intel-rapl:0", name, range_uj=65_532_610_987)
    clock = FakeClock()
    meter = open_meter("rapl", clock, tmp_path)
    trees.write(file, 5_000_000)
    clock.advance_ms(100)
    assert meter.read().energy_mj == pytest.approx(5000)
    assert meter_specs("rapl", tmp_path) == ("rapl",)


@given(
    steps=st.lists(st.tuples(st.floats(1, 1000), st.integers(0, 4000)), max_size=30),
    start=st.integers(0, 999_999),
)
def test_any_number_of_reads_follows_any_number_of_wraps(tmp_path_factory, steps, start):
    system = tmp_path_factory.mktemp("sys")
    range_uj = 1_000_000_000
    zones = [("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram")]
    files = [trees.Powercap(system).add(zone, name, range_uj) for zone, name in zones]
    clock = FakeClock()
    true_uj = range_uj - start
    trees.write(files[0], true_uj % range_uj)
    meter = open_meter("rapl", clock, system)
    first_uj, last_mj = true_uj, 0.0
    for passed_ms, watts in steps:
        clock.advance_ms(passed_ms)
        true_uj += min(round(watts * passed_ms * 1000), range_uj - 1)
        trees.write(files[0], true_uj % range_uj)
        energy_mj = meter.read().energy_mj
        assert energy_mj >= last_mj
        assert energy_mj == pytest.approx((true_uj - first_uj) / 1000, abs=0.01)
        last_mj = energy_mj


def test_a_counter_that_was_reset_is_no_wrap(tmp_path):
    file = trees.Powercap(tmp_path).add("intel-rapl:0", "package-0")
    trees.write(file, 90_000_000_000)
    clock = FakeClock()
    meter = open_meter("rapl", clock, tmp_path)
    clock.advance_ms(1000)
    trees.write(file, 90_050_000_000)
    assert meter.read().energy_mj == pytest.approx(50_000)
    clock.advance_ms(1000)
    trees.write(file, 20_000_000)  # begun anew while the machine slept
    assert meter.read().energy_mj == pytest.approx(70_000)
    clock.advance_ms(1000)
    trees.write(file, 30_000_000)
    assert meter.read().energy_mj == pytest.approx(80_000)


def test_a_counter_that_stops_loses_nothing(powercap):
    clock = FakeClock()
    meter = open_meter("rapl", clock, powercap.system)
    first, second = (counter(powercap, f"intel-rapl:{index}") for index in (0, 1))
    trees.write(first, 1_000_000)
    second.unlink()
    clock.advance_ms(10)
    with pytest.raises(MeterError, match=r"intel-rapl:1/energy_uj: cannot be read: No such"):
        meter.read()
    second.symlink_to(trees.DEAD)
    with pytest.raises(MeterError, match="Input/output error"):
        meter.read()
    second.unlink()
    trees.write(second, "soon")
    with pytest.raises(MeterError, match="holds 'soon', expected a whole number"):
        meter.read()
    trees.write(second, 500_000)
    assert meter.read().energy_mj == pytest.approx(1500)


def test_rights_are_told_with_file_and_remedy():
    with trees.unprivileged() as system:
        file = trees.Powercap(system).add("intel-rapl:0", "package-0")
        file.chmod(0o000)
        with pytest.raises(MeterUnavailableError) as caught:
            open_meter("rapl", system=system)
    assert f"{file}: this user may not read it (mode 000)" in str(caught.value)
    assert f"chmod a+r {file}" in str(caught.value)
    assert "udev rule" in str(caught.value)


def test_no_package_is_told_with_what_is_there(tmp_path):
    with pytest.raises(
        MeterUnavailableError, match=r"no processor package .*powercap: not an"
    ):
        open_meter("rapl", system=tmp_path)
    made = trees.Powercap(tmp_path)
    made.add("intel-rapl:0", "psys")
    made.add("intel-rapl:0:0", "dram")
    for act in (open_meter, lambda spec, system: meter_specs(spec, system)):
        with pytest.raises(MeterUnavailableError, match=r"\(only psys, dram\)"):
            act("rapl", system=tmp_path)


def test_it_takes_no_argument(powercap):
    with pytest.raises(MeterError, match="takes no name, not 'package-0'"):
        open_meter("rapl:package-0", system=powercap.system)
