from __future__ import annotations

import errno
from pathlib import Path

import pytest

from skipc.runtime import FakeClock, MeterError, MeterUnavailableError, open_meter
from skipc.runtime.meters.opening import _MODULES, MEASURING
from skipc.runtime.meters.sysfs import read_number, read_text
from tests import sysfs_trees as trees
from tests.doubles.pynvml import CountingGpu, fake_nvml


def test_a_constant_power_is_taken_for_granted():
    clock = FakeClock()
    clock.advance_ms(5)
    meter = open_meter("model:15", clock)
    assert (meter.name, meter.estimated) == ("model:15", True)
    assert meter.covers == "nothing measured: 15 W taken for granted"
    assert meter.read().energy_mj == 0
    clock.advance_ms(2000)
    assert meter.read().energy_mj == pytest.approx(30_000)
    meter.close()


@pytest.mark.parametrize("watts", ["", "-1", "0", "nan", "inf", "15W", "x"])
def test_a_power_must_be_a_number_above_zero(watts):
    with pytest.raises(MeterError, match=r"watts above zero|ends in a colon"):
        open_meter(f"model:{watts}")
    with pytest.raises(MeterError, match="watts above zero"):
        open_meter("model")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("rapp", r"unknown meter 'rapp'. Did you mean 'rapl'\? Available: 'auto', 'hwmon'"),
        ("hwmom:VDD_IN", "unknown meter 'hwmom:VDD_IN'. Did you mean 'hwmon'"),
        ("", "unknown meter ''. Available"),
        ("NVML", "unknown meter 'NVML'"),
        ("hwmon:", "'hwmon:' ends in a colon"),
        ("auto:1", "unknown meter 'auto:1'"),
    ],
)
def test_a_wrong_spec_names_the_nearest(spec, told, tmp_path):
    with pytest.raises(MeterError, match=told):
        open_meter(spec, system=tmp_path)


def test_auto_takes_the_best_and_logs_what_it_passed_over(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    with fake_nvml(monkeypatch, CountingGpu()) as library:
        trees.Powercap(tmp_path).add("intel-rapl:0", "package-0")
        gpu = open_meter("auto", system=tmp_path)
        assert gpu.name == "nvml"
        (record,) = caplog.records
        told = record.getMessage()
        assert told.startswith("meter nvml is taken. hwmon: no power rail was found")
        gpu.close()
        library.gpus = ()
        assert open_meter("auto", system=tmp_path).name == "rapl"
        trees.agx_orin(tmp_path)
        assert open_meter("auto", system=tmp_path).name == "hwmon"


def test_auto_without_a_meter_says_why_of_each(tmp_path, monkeypatch):
    with (
        fake_nvml(monkeypatch, start_fault=12),
        pytest.raises(MeterUnavailableError) as caught,
    ):
        open_meter("auto", system=tmp_path)
    told = str(caught.value)
    assert told.startswith("no meter can be used here. hwmon: no power rail")
    assert "nvml: NVML cannot be started" in told
    assert "rapl: no processor package" in told
    assert told.endswith("'model:WATTS'.")


def test_every_measuring_kind_is_in_the_registry():
    assert set(MEASURING) < set(_MODULES)


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_busy_sensor_is_asked_again(failures, tmp_path, monkeypatch):
    """No file of a normal file system answers EAGAIN, so the answer is given for it."""
    path = tmp_path / "in1_input"
    trees.write(path, 5)
    left = [BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")] * failures
    real = Path.read_text

    def busy(self, **arguments):
        if left and self == path:
            raise left.pop()
        return real(self, **arguments)

    monkeypatch.setattr(Path, "read_text", busy)
    if failures < 3:
        assert read_number(path) == 5
    else:
        with pytest.raises(MeterError, match="temporarily unavailable"):
            read_number(path)


def test_a_folder_in_a_files_place_is_told(tmp_path):
    with pytest.raises(MeterError, match="Is a directory"):
        read_text(tmp_path)


def test_a_long_text_is_cut(tmp_path):
    trees.write(tmp_path / "x", "9x" * 500)
    with pytest.raises(MeterError) as caught:
        read_number(tmp_path / "x")
    assert len(str(caught.value)) < 200
