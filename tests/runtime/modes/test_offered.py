"""What a device offers, on files laid out as nvpmodel and the kernel lay them out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from skipc.runtime.modes import Offer, offered
from tests.command_line import mistake, skipc
from tests.doubles.pynvml import CountingGpu, fake_nvml
from tests.mode_trees import CPUFREQ, RAPL, jetson, tree

if TYPE_CHECKING:
    from pathlib import Path


def test_modes_of_a_jetson_say_which_need_a_reboot(tmp_path: Path) -> None:
    assert offered(jetson(tmp_path)) == (
        Offer(
            *("nvpmodel", "MAXN", ""),
            "2 CPUs, CPU uncapped, GPU uncapped, memory to 0 MHz",
            *("a reboot", "MAXN"),
        ),
        Offer(
            *("nvpmodel", "MODE_15W", "in force"),
            *("1 CPUs, CPU to 1114 MHz, GPU to 421 MHz", "", "MODE_15W"),
        ),
        Offer(
            *("nvpmodel", "MODE_30W", ""),
            *("1 CPUs, CPU to 1728 MHz, GPU to 625 MHz, memory to 3199 MHz", "", "MODE_30W"),
        ),
    )


@pytest.mark.parametrize("status", ["pmode:0009", "", "gibberish"])
def test_where_the_mode_is_not_told_nothing_is_assumed(tmp_path: Path, status: str) -> None:
    found = offered(jetson(tmp_path, status))
    assert [(each.now, each.needs) for each in found] == [("not told", "a reboot")] * 3


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
        gpu = "Fake GPU (00000000:01:00.0)"  # of two a mode names neither
        assert offered(tmp_path) == (
            Offer("nvml", gpu, "220 W", "100 to 250 W", "root"),
            Offer("nvml", gpu, "not told", "300 to 1500 MHz", "root"),
        )
    with fake_nvml(monkeypatch, CountingGpu()):
        found = [each.mode for each in offered(tmp_path)]
        assert found == ["nvml:220W", "nvml:1500MHz"]
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
    assert "a reboot" in shown
    assert skipc("targets", "--modes", "--json").json()[1]["now"] == "in force"


@pytest.mark.parametrize("other", ["cpu", "--detect"])
def test_modes_are_of_this_machine_alone(other: str) -> None:
    said = mistake("targets", "--modes", other)
    assert f"--modes lists what this machine offers, but '{other}' is given" in said
