"""Devices and power modes, read from trees laid out as boards and PCs have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skipc.runtime.bundle.device import power_mode, processor_name, this_device

if TYPE_CHECKING:
    from pathlib import Path

JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=30W >\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq": "1728000\n",
    "sys/class/devfreq/17000000.ga10b/max_freq": "612000000\n",
    "sys/class/devfreq/15480000.nvdec/max_freq": "793600000\n",
}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_jetson_is_its_board_in_a_mode(tmp_path: Path) -> None:
    device = this_device(tree(tmp_path, JETSON))
    assert device.name.startswith("NVIDIA Jetson AGX Orin Developer Kit, ARMv8 Processor")
    assert device.power_mode == "30W; CPU schedutil to 1728 MHz; GPU to 612 MHz"


def test_a_mode_without_a_name_is_told_by_its_number(tmp_path: Path) -> None:
    files = {"var/lib/nvpmodel/status": "pmode:0007 fmode:quiet\n"}
    assert power_mode(tree(tmp_path, files)) == "mode 7"


def test_clocks_that_differ_are_all_told(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/cpufreq"
    files = {
        "sys/firmware/acpi/platform_profile": "balanced\n",
        f"{cpu}/policy0/scaling_governor": "powersave\n",
        f"{cpu}/policy0/scaling_max_freq": "3600000\n",
        f"{cpu}/policy8/scaling_governor": "performance\n",
        f"{cpu}/policy8/scaling_max_freq": "unknown\n",
        f"{cpu}/policy9/scaling_max_freq": "36²\n",  # digits, but for int()
    }
    assert power_mode(tree(tmp_path, files)) == (
        "profile balanced; CPU performance/powersave to 3600 MHz"
    )


def test_a_gpu_is_part_of_the_device(tmp_path: Path) -> None:
    files = {
        "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t NVIDIA L4\nIRQ: 9\n"
    }
    assert this_device(tree(tmp_path, files)).name.endswith(", NVIDIA L4")


def test_where_nothing_is_told_there_is_a_name_all_the_same(tmp_path: Path) -> None:
    device = this_device(tmp_path)
    assert "logical cores" in device.name
    assert device.power_mode == ""


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD  EPYC\n", "AMD EPYC"),
        ("processor\t: 0\nModel\t\t: Raspberry Pi 5\n", "Raspberry Pi 5"),
        ("processor\t: 0\n", ""),
        ("", ""),
    ],
)
def test_the_processor_is_named(cpuinfo: str, name: str) -> None:
    assert processor_name(cpuinfo) == name
