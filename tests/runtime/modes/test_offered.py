"""What a device offers, on files laid out as nvpmodel and the kernel lay them out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from skipc.runtime.modes import Offer, offered
from tests.command_line import mistake, skipc
from tests.doubles.pynvml import CountingGpu, fake_nvml

if TYPE_CHECKING:
    from pathlib import Path

NVPMODEL = """
# comment
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< PARAM TYPE=CLOCK NAME=GPU >
MAX_FREQ /sys/devices/17000000.gpu/devfreq/17000000.gpu/max_freq
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
TPC_POWER_GATING TPC_PG_MASK 0
CPU_A78_0 MIN_FREQ 0
CPU_A78_0 MAX_FREQ -1
GPU MAX_FREQ -1
EMC MAX_FREQ 0
# POWER_MODEL that is none
< POWER_MODEL ID=1 NAME=MODE_15W >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 0
TPC_POWER_GATING TPC_PG_MASK 240
CPU_A78_0 MAX_FREQ 1113600
CPU_A78_1 MAX_FREQ 1113600
GPU MAX_FREQ 420750000
< POWER_MODEL ID=2 NAME=MODE_30W >
CPU_ONLINE CORE_0 1
TPC_POWER_GATING TPC_PG_MASK 240
CPU_A78_0 MAX_FREQ 1728000
GPU MAX_FREQ 624750000
EMC MAX_FREQ 3199000000
< POWER_MODEL ID=nonsense NAME=BROKEN >
GPU MAX_FREQ 1
< PM_CONFIG DEFAULT=2 >
"""
CPUFREQ = {
    "scaling_max_freq": "1728000",
    "cpuinfo_min_freq": "115200",
    "cpuinfo_max_freq": "2201600",
    "scaling_governor": "schedutil",
    "scaling_available_governors": "performance schedutil",
    "related_cpus": "0 1 2 3",
}
RAPL = {
    "name": "package-0",
    "constraint_0_name": "long_term",
    "constraint_0_power_limit_uw": "45000000",
    "constraint_0_max_power_uw": "65000000",
    "constraint_1_power_limit_uw": "90500000",
}


def tree(root: Path, folder: str, files: dict[str, str]) -> Path:
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name).write_text(f"{text}\n")
    return place


def jetson(root: Path, status: str = "pmode:0001 fmode:quiet") -> Path:
    tree(root, "etc", {"nvpmodel.conf": NVPMODEL})
    tree(root, "var/lib/nvpmodel", {"status": status})
    return root


def test_modes_of_a_jetson_say_which_need_a_reboot(tmp_path: Path) -> None:
    assert offered(jetson(tmp_path)) == (
        Offer(
            *("nvpmodel", "MAXN", ""),
            "2 CPUs, CPU uncapped, GPU uncapped, memory to 0 MHz",
            "root and a reboot",
        ),
        Offer(
            *("nvpmodel", "MODE_15W", "in force"),
            *("1 CPUs, CPU to 1114 MHz, GPU to 421 MHz", "root"),
        ),
        Offer(
            *("nvpmodel", "MODE_30W", ""),
            *("1 CPUs, CPU to 1728 MHz, GPU to 625 MHz, memory to 3199 MHz", "root"),
        ),
    )


@pytest.mark.parametrize("status", ["pmode:0009", "", "gibberish"])
def test_where_the_mode_is_not_told_nothing_is_assumed(tmp_path: Path, status: str) -> None:
    found = offered(jetson(tmp_path, status))
    assert [(each.now, each.needs) for each in found] == [
        ("not told", "root and a reboot")
    ] * 3


def test_clocks_profiles_and_limits_are_read(tmp_path: Path) -> None:
    policy = tree(tmp_path, "sys/devices/system/cpu/cpufreq/policy0", CPUFREQ)
    gpu = {"max_freq": "624750000", "available_frequencies": "306000000 624750000 1300500000"}
    tree(tmp_path, "sys/class/devfreq/17000000.gpu", gpu)
    zone = tree(tmp_path, "sys/class/powercap/intel-rapl:0", RAPL)
    profile = {"platform_profile": "balanced", "platform_profile_choices": "quiet balanced"}
    tree(tmp_path, "sys/firmware/acpi", profile)
    for each in (policy / "scaling_max_freq", zone / "constraint_0_power_limit_uw"):
        assert os.access(each, os.W_OK)
    found = offered(tmp_path)
    assert [(each.kind, each.name, each.now, each.choices) for each in found] == [
        ("platform_profile", "the platform", "balanced", "quiet, balanced"),
        (
            *("cpufreq", "policy0 (CPUs 0 1 2 3)", "up to 1728 MHz, by schedutil"),
            "115 MHz to 2202 MHz; governors performance, schedutil",
        ),
        ("devfreq", "17000000.gpu", "up to 625 MHz", "306 to 1300 MHz"),
        ("powercap", "package-0 long_term (intel-rapl:0)", "45 W", "up to 65 W"),
        ("powercap", "package-0 constraint_1 (intel-rapl:0)", "90.5 W", "not told"),
    ]
    assert {each.needs for each in found} == {""}  # the tree is this user's own


@pytest.mark.parametrize("file", ["scaling_max_freq", "cpuinfo_max_freq", "cpuinfo_min_freq"])
@pytest.mark.parametrize("text", [None, "<unknown>", ""])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, file: str, text: str | None) -> None:
    policy = tree(tmp_path, "sys/devices/system/cpu/cpufreq/policy0", CPUFREQ)
    if text is None:
        (policy / file).unlink()
    else:
        (policy / file).write_text(text)
    found = offered(tmp_path)
    assert [each.kind for each in found] == [] if file == "scaling_max_freq" else ["cpufreq"]


def test_limits_of_gpus_are_asked_of_nvml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = CountingGpu(bus_id="00000000:02:00.0", fault=3)
    with fake_nvml(monkeypatch, CountingGpu(), without):
        assert offered(tmp_path) == (
            Offer("nvml", "Fake GPU (00000000:01:00.0)", "220 W", "100 to 250 W", "root"),
        )
    with fake_nvml(monkeypatch, CountingGpu(fault=15)):
        assert offered(tmp_path) == ()


def test_an_empty_machine_offers_nothing_and_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skipc.runtime.modes.offered", lambda: ())
    assert "shows nothing that caps power" in skipc("targets", "--modes").out
    assert skipc("targets", "--modes", "--json").json() == []
    monkeypatch.setattr("skipc.runtime.modes.offered", lambda: offered(jetson(tmp_path)))
    shown = skipc("targets", "--modes").out
    assert "MODE_30W" in shown
    assert "root and a reboot" in shown
    assert skipc("targets", "--modes", "--json").json()[1]["now"] == "in force"


@pytest.mark.parametrize("other", ["cpu", "--detect"])
def test_modes_are_of_this_machine_alone(other: str) -> None:
    said = mistake("targets", "--modes", other)
    assert f"--modes lists what this machine offers, but '{other}' is given" in said
