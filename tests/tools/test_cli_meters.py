from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import Reading
from skipc.tools.views.meters import energy_text, power_w
from tests import sysfs_trees as trees
from tests.command_line import mistake, skipc, skipc_without
from tests.doubles.pynvml import CountingGpu, fake_nvml

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--seconds", 0.1)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """An AGX Orin that also has a processor's counter."""
    rails = trees.agx_orin(tmp_path)
    rails.show(VDD_GPU_SOC=12_000, VDD_CPU_CV=3000, VIN_SYS_5V0=5000, VDDQ_VDD2_1V8AO=900)
    trees.Powercap(tmp_path).add("intel-rapl:0", "package-0")
    return tmp_path


def test_every_meter_is_listed_with_what_it_shows_and_covers(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_nvml(monkeypatch, CountingGpu(), CountingGpu("00000000:41:00.0")):
        ended = skipc("meters", "--sysfs", system, *QUICK, columns=80)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 80
    table = {line.split()[0]: line for line in itertools.takewhile(str.strip, lines)}
    assert [*table] == [
        *("meter", "hwmon", "hwmon:VDD_GPU_SOC", "hwmon:VDD_CPU_CV", "hwmon:VIN_SYS_5V0"),
        *("hwmon:VDDQ_VDD2_1V8AO", "nvml:00000000:01:00.0", "nvml:00000000:41:00.0", "rapl"),
    ]
    assert table["hwmon"].split()[1:3] == ["20.05", "W"]
    assert table["hwmon"].split()[-1] == "yes"
    assert "the module, not the carrier board (VDD_GPU_SOC + VDD_CPU_CV" in ended.out
    assert "part of VIN_SYS_5V0" in ended.out
    assert "cannot be used" not in ended.out


def test_json_holds_everything(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_nvml(monkeypatch, start_fault=12):
        listed = skipc("meters", "--sysfs", system, "--json", *QUICK).json()
    by_name = {entry["meter"]: entry for entry in listed}
    total = by_name["hwmon"]
    assert total["power_w"] == pytest.approx(20.05, abs=0.01)
    assert total["energy_mj"] > 0
    assert (total["reason"], total["estimated"], total["period_s"]) == (None, False, 0.01)
    assert total["resolution_mj"] == pytest.approx(8.93, abs=0.01)
    assert "NVML cannot be started" in by_name["nvml"]["reason"]
    assert by_name["nvml"]["power_w"] is None
    assert by_name["rapl"]["covers"] == "the processor (package-0)"


def test_a_machine_without_any_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_nvml(monkeypatch, start_fault=12):
        ended = skipc("meters", "--sysfs", tmp_path, columns=80)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Nothing measures energy here.")
    for kind in ("hwmon", "nvml", "rapl"):
        assert f"\n{kind} cannot be used here: " in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


def test_rails_of_an_unknown_board_are_listed_without_a_total(tmp_path: Path) -> None:
    trees.Rails(tmp_path).ina3221(0, {"MAIN": 12_000, "FAN": 12_000, "off": 0})
    ended = skipc("meters", "--sysfs", tmp_path, *QUICK)
    names = [line.split()[0] for line in itertools.takewhile(str.strip, ended.out.split("\n"))]
    assert names == ["meter", "hwmon:MAIN", "hwmon:FAN"]


def test_a_meter_that_fails_is_told_beside_the_others(system: Path) -> None:
    file = system / "class/powercap/intel-rapl:0/energy_uj"
    file.unlink()
    file.symlink_to(trees.DEAD)
    ended = skipc("meters", "--sysfs", system, *QUICK)
    assert ended.code == 0
    assert f"rapl cannot be used here: {file}: cannot be read: Input/output" in ended.out
    assert "\nhwmon " in ended.out


def test_one_meter_may_be_chosen(system: Path) -> None:
    ended = skipc("meters", "--meter", "hwmon:VIN_SYS_5V0", "--sysfs", system, *QUICK)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[1].split()[:3] == ["hwmon:VIN_SYS_5V0", "4.97", "W"]
    (found,) = skipc("meters", "--meter", "model:15", "--json", *QUICK).json()
    assert found["power_w"] == pytest.approx(15)
    assert found["estimated"] is True
    assert (
        skipc("meters", "--meter", "model:15", *QUICK).out.splitlines()[1].endswith("no      ")
    )


def test_no_package_beyond_the_base_install_is_needed() -> None:
    ended = skipc_without("torch,onnx,onnx_ir,onnxruntime,pynvml", "meters", *QUICK)
    assert (ended.code, ended.err) == (0, "")
    assert "pip install '.[nvml]'" in ended.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--meter", "rapp"), "unknown meter 'rapp'. Did you mean 'rapl'?"),
        (("--meter", "model:lots"), "'lots' is no number of watts above zero"),
        (("--meter", "hwmon"), "no power rail was found"),
        (("--meter", "rapl"), "no processor package shows its energy"),
        (("--seconds", "0"), "0 is not in the range"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    assert told in mistake("meters", "--sysfs", tmp_path, *arguments)


def test_power_is_counted_between_the_steps_of_a_counter() -> None:
    # 20 W in a counter that moves every 100 ms, read every 20 ms from the middle of a step on.
    readings = [
        Reading(20_000 * (time_ms // 100) / 10, time_ms * 1_000_000)
        for time_ms in range(50, 990, 20)
    ]
    assert power_w(readings) == pytest.approx(20, rel=0.05)
    still = [Reading(5, 0), Reading(5, 1_000_000_000)]
    assert power_w(still) == 0
    assert power_w(still[:1]) is None
    assert power_w([Reading(5, 0), Reading(1, 1_000_000_000)]) is None


@given(st.floats(0, 1e9))
def test_energies_are_short(energy_mj: float) -> None:
    text = energy_text(energy_mj)
    assert text.split()[1] in ("mJ", "J", "kJ")
    assert len(text) <= 14
