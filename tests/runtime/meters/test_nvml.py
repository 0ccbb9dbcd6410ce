from __future__ import annotations

import sys

import pytest

from skipc.runtime import FakeClock, MeterError, MeterUnavailableError, open_meter
from skipc.runtime.meters import meter_specs
from tests.doubles.pynvml import CountingGpu, fake_nvml

NOT_SUPPORTED, DRIVER_NOT_LOADED, NO_LIBRARY, LOST = 3, 9, 12, 15


def two_gpus():
    return CountingGpu(), CountingGpu("00000000:41:00.0", 777, "Other GPU")


def test_the_only_gpu_is_taken(monkeypatch):
    gpu = CountingGpu()
    clock = FakeClock()
    with fake_nvml(monkeypatch, gpu):
        meter = open_meter("nvml", clock)
        assert (meter.name, meter.estimated) == ("nvml", False)
        assert meter.covers == "the GPU board Fake GPU (00000000:01:00.0)"
        assert (meter.resolution_mj, meter.period_s) == (1, 0.1)
        assert meter.read().energy_mj == 123_456
        clock.advance_ms(100)
        gpu.energy_mj += 500
        reading = meter.read()
        assert (reading.energy_mj, reading.time_ns) == (123_956, 100_000_000)
        meter.close()
        meter.close()


@pytest.mark.parametrize("bus_id", ["00000000:41:00.0", "0000:41:00.0"])
def test_a_gpu_is_named_by_its_bus_id(bus_id, monkeypatch):
    with fake_nvml(monkeypatch, *two_gpus()):
        meter = open_meter(f"nvml:{bus_id}")
        assert meter.name == f"nvml:{bus_id}"
        assert meter.read().energy_mj == 777
        meter.close()


def test_gpus_are_listed(monkeypatch):
    with fake_nvml(monkeypatch, *two_gpus()):
        assert meter_specs("nvml") == ("nvml:00000000:01:00.0", "nvml:00000000:41:00.0")


def test_several_gpus_must_be_told_apart(monkeypatch):
    with fake_nvml(monkeypatch, *two_gpus()):
        with pytest.raises(MeterUnavailableError) as caught:
            open_meter("nvml")
        assert "there are 2 GPUs" in str(caught.value)
        assert "00000000:01:00.0, 00000000:41:00.0" in str(caught.value)
        with pytest.raises(MeterUnavailableError, match=r"Did you mean '00000000:41:00\.0'"):
            open_meter("nvml:00000000:42:00.0")


def test_a_jetson_is_sent_to_its_rails(monkeypatch):
    gpu = CountingGpu(name="Orin (nvgpu)", fault=NOT_SUPPORTED)
    with (
        fake_nvml(monkeypatch, gpu),
        pytest.raises(MeterUnavailableError, match=r"no energy counter.*use 'hwmon'"),
    ):
        open_meter("nvml")


def test_a_driver_that_does_not_answer_is_no_missing_meter(monkeypatch):
    with fake_nvml(monkeypatch, CountingGpu(fault=LOST)):
        with pytest.raises(MeterError, match="GPU is lost") as caught:
            open_meter("nvml")
        assert type(caught.value) is MeterError


def test_a_gpu_that_is_lost_and_comes_back(monkeypatch):
    gpu = CountingGpu()
    with fake_nvml(monkeypatch, gpu):
        meter = open_meter("nvml")
        gpu.fault = LOST
        with pytest.raises(MeterError, match=r"Fake GPU .* cannot be read: GPU is lost"):
            meter.read()
        gpu.fault = 0
        assert meter.read().energy_mj == 123_456
        meter.close()
        with pytest.raises(MeterError, match="Uninitialized"):
            meter.read()


@pytest.mark.parametrize("fault", [DRIVER_NOT_LOADED, NO_LIBRARY])
def test_no_driver(fault, monkeypatch):
    with fake_nvml(monkeypatch, start_fault=fault):
        for act in (open_meter, meter_specs):
            with pytest.raises(MeterUnavailableError, match=r"NVML cannot be started"):
                act("nvml")


def test_no_gpu(monkeypatch):
    with fake_nvml(monkeypatch):
        for act in (open_meter, meter_specs):
            with pytest.raises(MeterUnavailableError, match="sees no GPU"):
                act("nvml")


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MeterUnavailableError, match=r"pip install '\.\[nvml\]'"):
        open_meter("nvml")
