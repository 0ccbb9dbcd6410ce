"""Changing power modes, on files laid out as the kernel lays them out: put back, always."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest

from skipc.runtime.errors import ModeError
from skipc.runtime.modes import open_modes, restore_modes
from tests import mode_trees
from tests.doubles.pynvml import CountingGpu, fake_nvml
from tests.mode_trees import CAPPED, CPUS, contents, jetson, laptop, nvpmodel_program
from tests.sysfs_trees import unprivileged, write

if TYPE_CHECKING:
    from pathlib import Path

BOTH = ("platform_profile:quiet+cpufreq:1000MHz", "platform_profile:balanced+cpufreq:1400MHz")
CAP = "scaling_max_freq"
GPU = "sys/class/devfreq/17000000.gpu"
ZONE = "sys/class/powercap/intel-rapl:0"
PROFILE = "sys/firmware/acpi/platform_profile"


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return laptop(tmp_path / "device")


@pytest.fixture
def guard(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_modes_are_set_read_back_and_put_back(device: Path, guard: Path) -> None:
    before = contents(device)
    modes = open_modes(BOTH, device, guard)
    assert (modes.names, modes.now, contents(device)) == (BOTH, None, before)
    for name, clocks in zip(
        BOTH, (("1000000", "1000000"), ("1400000", "1400000")), strict=True
    ):
        modes.change(name)
        assert modes.now == name
        found = contents(device)
        assert found[PROFILE].strip() in name
        policies = [f"{CPUS}/policy{number}/scaling_max_freq" for number in (0, 4)]
        assert tuple(found[policy].strip() for policy in policies) == clocks
        left = json.loads((guard / "modes.json").read_text())
        assert left["settings"]["cpufreq"] == {"policy0": "1728000", "policy4": "1400000"}
    modes.close()
    modes.close()
    assert contents(device) == before
    assert [file.name for file in guard.iterdir()] == ["modes.lock"]
    with pytest.raises(ModeError, match="were closed"):
        modes.change(BOTH[0])


@pytest.mark.parametrize(
    ("word", "name", "file", "value"),
    [
        ("cpufreq:2201.6MHz", "cpufreq:2201.6MHz", f"{CPUS}/policy0/{CAP}", "2201600"),
        ("cpufreq:1000.4MHz", "cpufreq:1000.4MHz", f"{CPUS}/policy4/{CAP}", "1000000"),
        ("devfreq:625MHz", "devfreq:624.75MHz", f"{GPU}/max_freq", "624750000"),
        ("powercap:15W", "powercap:15W", f"{ZONE}/constraint_0_power_limit_uw", "15000000"),
        ("platform_profile:quiet", "platform_profile:quiet", PROFILE, "quiet"),
    ],
)
def test_each_kind_is_named_and_set(
    device: Path, guard: Path, word: str, name: str, file: str, value: str
) -> None:
    before = contents(device)
    modes = open_modes([word], device, guard)
    modes.change(name)
    assert (device / file).read_text().strip() == value
    assert modes.power_mode().endswith(name if "powercap" in name else "MHz")
    part = file.split("/")[1:3]
    changed = [key for key, text in contents(device).items() if text != before[key]]
    assert {tuple(key.split("/")[1:3]) for key in changed} <= {tuple(part)}
    modes.close()
    assert contents(device) == before


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "name at least one"),
        ("15W", "modes='15W' is a text. Give a list of names: ['15W']"),
        (("",), "is no name of a mode"),
        (("15W",), "of the kind nvpmodel, which this machine does not offer"),
        (("cpufre:1MHz",), "unknown kind of mode in 'cpufre:1MHz'. Did you mean 'cpufreq'?"),
        (("nvml:1W",), "of the kind nvml, which this machine does not offer"),
        (
            ("cpufreq:fast",),
            "cpufreq:fast: expected a number of MHz, as in 'cpufreq:2201.6MHz'",
        ),
        (("cpufreq:15W",), "expected a number of MHz"),
        (("cpufreq:9000MHz",), "the most is 2201.6MHz"),
        (("cpufreq:200MHz",), "policy4 goes down to 400MHz"),
        (("devfreq:700MHz",), "the nearest that there is: 624.75MHz and 1300.5MHz"),
        (("powercap:70W",), "the most is 65W"),
        (("powercap:0.5W",), "intel-rapl:0 goes down to 1W"),
        (
            ("platform_profile:quite",),
            "unknown platform profile 'quite'. Did you mean 'quiet'?",
        ),
        (("powercap:15W", "cpufreq:1000MHz"), "do not set the same"),
        (("cpufreq:1000MHz+cpufreq:1400MHz",), "sets cpufreq twice"),
        (("devfreq:625MHz", "devfreq:624.75MHz"), "'devfreq:624.75MHz' is named twice"),
    ],
)
def test_names_that_are_none_are_told(
    device: Path, guard: Path, names: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ModeError) as error:
        open_modes(names, device, guard)
    assert told in str(error.value)
    assert not (guard / "modes.json").exists()


@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("fault", mode_trees.FAULTS)
def test_after_each_fault_all_is_as_before_or_the_guard_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, forever: bool
) -> None:
    for at in range(9):  # two changes and closing, of three files each
        device, guard = laptop(tmp_path / f"device{at}"), tmp_path / f"state{at}"
        before = contents(device)
        modes = open_modes(BOTH, device, guard)
        told = []
        with mode_trees.faulty_device(monkeypatch, device, fault, at, forever) as written:
            for act in (*(partial(modes.change, name) for name in BOTH), modes.close):
                try:
                    act()
                except ModeError as error:
                    told.append(str(error))
        assert len(written) > at
        assert all(str(device) in text for text in told)
        # To be held where it is going anyhow is no fault.
        assert told or (fault == "clamped" and contents(device) == before)
        for file in before.keys() - contents(device).keys():  # gone: the driver comes back
            write(device / file, before[file].strip())
            assert (guard / "modes.json").exists()
        assert contents(device) == before or (guard / "modes.json").exists()
        restore_modes(device, guard)
        assert contents(device) == before
        assert not (guard / "modes.json").exists()


def test_a_mode_that_cannot_be_set_leaves_the_one_before(
    device: Path, guard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = open_modes(BOTH, device, guard)
    modes.change(BOTH[0])
    found = contents(device)
    with (
        mode_trees.faulty_device(monkeypatch, device, "EINVAL", 2, forever=False),
        pytest.raises(ModeError, match=r"policy4.*Invalid argument"),
    ):
        modes.change(BOTH[1])
    assert (modes.now, contents(device)) == (BOTH[0], found)
    modes.close()


def test_what_is_not_told_meanwhile_is_put_back_at_the_end(
    device: Path, guard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(device)
    modes = open_modes(BOTH, device, guard)
    modes.change(BOTH[0])
    write(device / PROFILE, "")
    with (
        mode_trees.faulty_device(monkeypatch, device, "EIO", 1, forever=False),
        pytest.raises(ModeError, match=r"put back now: .* does not tell .* It is tried again"),
    ):
        modes.change(BOTH[1])
    modes.close()
    assert contents(device) == before


def test_what_is_in_force_and_cannot_be_told_is_not_changed(device: Path, guard: Path) -> None:
    write(device / PROFILE, "custom")
    modes = open_modes(["platform_profile:quiet"], device, guard)
    with pytest.raises(ModeError, match="unknown platform profile 'custom'"):
        modes.change("platform_profile:quiet")
    write(device / PROFILE, "")
    with pytest.raises(ModeError, match="does not tell what is in force of platform_profile"):
        modes.change("platform_profile:quiet")
    modes.close()
    assert (device / PROFILE).read_text().strip() == ""


def test_without_the_right_it_is_said_at_open() -> None:
    with unprivileged() as folder:
        device = laptop(folder)
        (device / CAPPED).chmod(0o444)
        with pytest.raises(ModeError, match=r"this user may not write it.*as root"):
            open_modes(["cpufreq:1000MHz"], device, folder / "state")


def test_one_process_at_a_time(device: Path, guard: Path) -> None:
    assert restore_modes(device, guard) is None
    assert not guard.exists()
    modes = open_modes(BOTH, device, guard)
    modes.change(BOTH[0])
    with pytest.raises(ModeError, match=r"^this process changes the modes"):
        open_modes(BOTH, device, guard)
    code = (
        "import sys, pathlib; from skipc.runtime.modes import restore_modes\n"
        "try: restore_modes(*map(pathlib.Path, sys.argv[1:]))\n"
        "except Exception as error: print(error)"
    )
    other = [sys.executable, "-c", code, device, guard]
    said = subprocess.run(other, capture_output=True, text=True, check=True).stdout
    assert f"the process {os.getpid()} changes the modes of this device now" in said
    modes.close()
    open_modes(BOTH, device, guard).close()


def test_modes_that_nobody_holds_are_put_back(device: Path, guard: Path) -> None:
    before = contents(device)
    modes = open_modes(BOTH, device, guard)
    modes.change(BOTH[0])
    del modes
    assert contents(device) == before


class TestNvpmodel:
    @pytest.fixture
    def board(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        board = jetson(tmp_path / "board")
        nvpmodel_program(monkeypatch, tmp_path / "bin", board)
        return board

    def test_a_mode_is_set_by_the_program(self, board: Path, guard: Path) -> None:
        before = contents(board)
        modes = open_modes(("15W", "MODE_30W"), board, guard)
        assert (modes.names, modes.now) == (("MODE_15W", "MODE_30W"), "MODE_15W")
        modes.change("MODE_30W")
        assert (modes.now, modes.power_mode()) == ("MODE_30W", "MODE_30W")
        modes.close()
        assert contents(board) == before

    @pytest.mark.parametrize(
        ("names", "told"),
        [
            (("MAXN",), "MAXN takes a reboot from the one in force, which is MODE_15W"),
            (("MODE_51W",), "unknown power mode 'MODE_51W'. Did you mean 'MODE_15W'?"),
            (("MODE",), "may be 'MODE_15W' or 'MODE_30W'. Write the whole name"),
            (("15W", "cpufreq:1000MHz"), "of the kind cpufreq, which this machine does not"),
        ],
    )
    def test_mistakes_are_told(
        self, board: Path, guard: Path, names: tuple[str, ...], told: str
    ) -> None:
        with pytest.raises(ModeError) as error:
            open_modes(names, board, guard)
        assert told in str(error.value)

    @pytest.mark.parametrize(
        ("does", "told"),
        [
            ("echo no such mode >&2; exit 3", "ended with 3: no such mode"),
            ("exit 0", "MODE_30W is not in force: .*status names MODE_15W"),
            ('[ "$2" = 2 ] && set -- -m 7', "is not in force: .*status names no mode"),
        ],
    )
    def test_a_program_that_does_not(
        self,
        board: Path,
        guard: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        does: str,
        told: str,
    ) -> None:
        nvpmodel_program(monkeypatch, tmp_path / "bin", board, does)
        before = contents(board)
        modes = open_modes(("15W", "30W"), board, guard)
        with pytest.raises(ModeError, match=told):
            modes.change("MODE_30W")
        modes.close()
        assert contents(board) == before

    def test_a_board_without_the_program(
        self, board: Path, guard: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "")
        with pytest.raises(ModeError, match="nvpmodel, which is not found"):
            open_modes(("15W",), board, guard)

    def test_of_another_start_only_the_mode_is_put_back(
        self, board: Path, guard: Path
    ) -> None:
        laptop(board)
        write(board / "proc/sys/kernel/random/boot_id", "another")
        guard.mkdir()
        left = {"nvpmodel": {"mode": "2"}, "cpufreq": {"policy0": "115200"}}
        document = {"format": "skipc.modes/1", "pid": 9, "boot_id": "4f3c", "settings": left}
        (guard / "modes.json").write_text(json.dumps(document))
        before = contents(board)
        assert restore_modes(board, guard) is not None
        changed = {name for name, text in contents(board).items() if text != before[name]}
        assert changed == {"var/lib/nvpmodel/status"}
        assert restore_modes(board, guard) is None

    def test_clocks_are_not_set_beside_a_mode_that_sets_them(
        self, board: Path, guard: Path
    ) -> None:
        laptop(board)
        with pytest.raises(ModeError, match="sets clocks twice"):
            open_modes(("15W+cpufreq:1000MHz",), board, guard)


class TestGuardFile:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (
                {"settings": {"cpufreq": {"policy0": "9999999"}}},
                "is not what this device takes",
            ),
            ({"settings": {"cpufreq": {"../../x": "1"}}}, "this device has no '../../x'"),
            ({"settings": {"cpufreq": {"policy0": "-1"}}}, "'-1' for policy0"),
            ({"settings": {"platform_profile": {"x": "quiet"}}}, "unknown platform profile"),
            ({"settings": {"nvml": {"power_mw": "1"}}}, "this device offers no 'nvml' now"),
            ({"settings": {"fan": {"speed": "1"}}}, "this device offers no 'fan' now"),
            ({"settings": {"cpufreq": {"policy0": 1}}}, "'policy0' must be"),
            ({"format": "skipc.modes/2"}, "written in format"),
            ({"surprise": 1}, "unknown key 'surprise'"),
            ({"pid": 0}, "'pid' must be"),
        ],
    )
    def test_what_it_holds_is_checked_before_anything_is_written(
        self, device: Path, guard: Path, change: dict[str, object], told: str
    ) -> None:
        before = contents(device)
        guard.mkdir()
        document = {"format": "skipc.modes/1", "pid": 9, "boot_id": "4f3c", "settings": {}}
        text = json.dumps({**document, **change})
        (guard / "modes.json").write_text(text)
        with pytest.raises(ModeError) as error:
            open_modes(BOTH, device, guard)
        assert told in str(error.value)
        assert str(guard / "modes.json") in str(error.value)
        assert contents(device) == before
        assert (guard / "modes.json").read_text() == text

    @pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b"x" * (2 << 20)])
    def test_what_skipc_did_not_write_is_told(
        self, device: Path, guard: Path, text: bytes
    ) -> None:
        guard.mkdir()
        (guard / "modes.json").write_bytes(text)
        with pytest.raises(ModeError, match=r"cannot be used: .* Set the modes yourself"):
            open_modes(BOTH, device, guard)

    def test_links_are_not_followed(self, device: Path, guard: Path, tmp_path: Path) -> None:
        guard.mkdir()
        (tmp_path / "elsewhere").write_text("{}")
        (guard / "modes.json").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ModeError, match="cannot be used"):
            open_modes(BOTH, device, guard)
        (guard / "modes.json").unlink()
        (guard / "modes.lock").unlink()
        (guard / "modes.lock").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ModeError, match="cannot be"):
            open_modes(BOTH, device, guard)
        assert (tmp_path / "elsewhere").read_text() == "{}"
        linked = tmp_path / "linked"
        linked.symlink_to(guard)
        with pytest.raises(ModeError, match="it is no folder"):
            open_modes(BOTH, device, linked)

    def test_a_folder_that_others_may_write_to_is_refused(
        self, device: Path, guard: Path
    ) -> None:
        guard.mkdir()
        guard.chmod(0o777)
        with pytest.raises(ModeError, match="others may write into it"):
            open_modes(BOTH, device, guard)

    def test_nothing_is_changed_that_cannot_be_kept(self, device: Path, guard: Path) -> None:
        before = contents(device)
        modes = open_modes(BOTH, device, guard)
        (guard / ".modes.json.half").mkdir()
        with pytest.raises(ModeError, match=r"cannot be kept: .* Nothing was changed"):
            modes.change(BOTH[0])
        assert contents(device) == before
        modes.close()


class TestNvml:
    def test_limits_of_a_gpu_are_set_and_put_back(
        self, tmp_path: Path, guard: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gpu = CountingGpu()
        with fake_nvml(monkeypatch, gpu):
            modes = open_modes(
                ("nvml:150W+nvml:1200MHz", "nvml:200W+nvml:1500MHz"), tmp_path, guard
            )
            modes.change("nvml:150W+nvml:1200MHz")
            assert (gpu.limit_mw, gpu.locked_mhz) == (150_000, 1200)
            assert modes.now == modes.power_mode() == "nvml:150W+nvml:1200MHz"
            modes.change("nvml:200W+nvml:1500MHz")
            modes.close()
            assert (gpu.limit_mw, gpu.locked_mhz) == (220_000, 0)
            modes = open_modes(["nvml:1200MHz"], tmp_path, guard)
            assert (modes.now, modes.power_mode()) == (None, "")
            modes.close()

    @pytest.mark.parametrize(
        ("gpus", "word", "told"),
        [
            (
                [CountingGpu()],
                "nvml:50W",
                "nvml:50W: Fake GPU .* takes limits from 100 to 250 W",
            ),
            ([CountingGpu()], "nvml:9000MHz", "takes clocks from 300 to 1500 MHz"),
            ([CountingGpu()], "nvml:fast", "expected watts or the clock"),
            ([CountingGpu(), CountingGpu()], "nvml:150W", "there are 2 GPUs"),
            (
                [CountingGpu(may_set=False)],
                "nvml:150W",
                "Insufficient Permissions. Setting it takes root",
            ),
        ],
    )
    def test_mistakes_are_told(
        self,
        tmp_path: Path,
        guard: Path,
        monkeypatch: pytest.MonkeyPatch,
        gpus: list[CountingGpu],
        word: str,
        told: str,
    ) -> None:
        with fake_nvml(monkeypatch, *gpus), pytest.raises(ModeError, match=told):
            open_modes([word], tmp_path, guard)

    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            ({"least_mw": 180_000}, "a limit of 150 W was set, and 180 W is in force"),
            ({"fault": 15}, "GPU is lost"),
        ],
    )
    def test_a_limit_that_is_not_in_force_is_told(
        self,
        tmp_path: Path,
        guard: Path,
        monkeypatch: pytest.MonkeyPatch,
        fault: dict[str, int],
        told: str,
    ) -> None:
        gpu = CountingGpu()
        with fake_nvml(monkeypatch, gpu):
            modes = open_modes(["nvml:150W"], tmp_path, guard)
            for name, value in fault.items():
                setattr(gpu, name, value)
            with pytest.raises(ModeError, match=told):
                modes.change("nvml:150W")
            gpu.fault = 0
            modes.close()
            assert gpu.limit_mw == 220_000
