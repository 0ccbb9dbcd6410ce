"""Devices whose power modes are files, laid out as nvpmodel and the kernel lay them out."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.sysfs_trees import write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

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
PROFILES = {"platform_profile": "balanced", "platform_profile_choices": "quiet balanced"}
GPU = {"max_freq": "624750000", "available_frequencies": "306000000 624750000 1300500000"}

CPUS = "sys/devices/system/cpu/cpufreq"
CAPPED = f"{CPUS}/policy0/scaling_max_freq"


def tree(root: Path, folder: str, files: dict[str, str]) -> Path:
    """Adds files to a folder of a device."""
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write(place / name, text)
    return place


def jetson(root: Path, status: str = "pmode:0001 fmode:quiet") -> Path:
    """A Jetson with three modes."""
    tree(root, "etc", {"nvpmodel.conf": NVPMODEL})
    tree(root, "var/lib/nvpmodel", {"status": status})
    return root


def laptop(root: Path) -> Path:
    """A laptop with two sorts of cores, a GPU, a processor's limits and profiles."""
    tree(root, f"{CPUS}/policy0", CPUFREQ)
    small = {
        "scaling_max_freq": "1400000",
        "cpuinfo_min_freq": "400000",
        "cpuinfo_max_freq": "1400000",
        "scaling_available_frequencies": "1400000 1000000 800000 400000",
    }
    tree(root, f"{CPUS}/policy4", {**CPUFREQ, **small})
    tree(root, "sys/class/devfreq/17000000.gpu", GPU)
    tree(root, "sys/class/devfreq/memory", {**GPU, "max_freq": "306000000"})
    tree(root, "sys/class/powercap/intel-rapl:0", RAPL)
    tree(root, "sys/class/powercap/intel-rapl:0:0", {**RAPL, "name": "core"})
    tree(root, "sys/firmware/acpi", PROFILES)
    tree(root, "proc/sys/kernel/random", {"boot_id": "4f3c"})
    return root


_CPUS = "\n".join(f"CPU_ONLINE CORE_{number} 1" for number in range(6))
ORIN_NANO = f"""
< POWER_MODEL ID=0 NAME=15W >
{_CPUS}
TPC_POWER_GATING TPC_PG_MASK 240
CPU_A78_0 MAX_FREQ 1497600
GPU MAX_FREQ 612000000
< POWER_MODEL ID=1 NAME=25W >
{_CPUS}
TPC_POWER_GATING TPC_PG_MASK 240
CPU_A78_0 MAX_FREQ 1344000
GPU MAX_FREQ 918000000
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
{_CPUS}
TPC_POWER_GATING TPC_PG_MASK 0
CPU_A78_0 MAX_FREQ -1
GPU MAX_FREQ -1
"""


def orin_nano(patch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A board whose program ``nvpmodel``, in PATH from here on, caps the clocks, too."""
    board = folder / "board"
    tree(board, "etc", {"nvpmodel.conf": ORIN_NANO})
    tree(board, "var/lib/nvpmodel", {"status": "pmode:0001 fmode:quiet"})
    cpus = tree(board, f"{CPUS}/policy0", {**CPUFREQ, "scaling_max_freq": "1344000"})
    clocks = {
        "max_freq": "918000000",
        "available_frequencies": "306000000 612000000 918000000",
    }
    gpu = tree(board, "sys/class/devfreq/17000000.gpu", clocks)
    caps = f"echo 1497600 > {cpus / 'scaling_max_freq'}; echo 612000000 > {gpu / 'max_freq'}"
    back = f"echo 1344000 > {cpus / 'scaling_max_freq'}; echo 918000000 > {gpu / 'max_freq'}"
    nvpmodel_program(patch, folder / "bin", board, f"[ $2 = 0 ] && ({caps}) || ({back})")
    return board


def contents(root: Path) -> dict[str, str]:
    """Returns what all files of a device hold."""
    files = (file for file in root.rglob("*") if file.is_file())
    return {str(file.relative_to(root)): file.read_text() for file in files}


def nvpmodel_program(
    patch: pytest.MonkeyPatch, folder: Path, board: Path, does: str = ""
) -> None:
    """Puts a program ``nvpmodel`` of a board into PATH.

    It writes the number that it is given into the board's status; ``does`` is what the shell
    runs before, where ``$2`` is the number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    status = board / "var/lib/nvpmodel/status"
    program = folder / "nvpmodel"
    told = f"printf 'pmode:%04d fmode:quiet\\n' \"$2\" > {status}.new"
    program.write_text(f"#!/bin/sh\n{does}\n{told} && mv {status}.new {status}\n")
    program.chmod(0o755)
    patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


FAULTS = ("EACCES", "EINVAL", "EIO", "short", "gone", "clamped")


@contextmanager
def faulty_device(
    patch: pytest.MonkeyPatch, root: Path, fault: str, at: int, forever: bool
) -> Iterator[list[Path]]:
    """Lets a device answer a write as a driver may; yields the files that were written to.

    Args:
        patch: Replaces the two system calls.
        root: What stands for the device.
        fault: One of ``FAULTS``.
        at: Which write it is, from 0.
        forever: Whether all that follow go the same way.
    """
    real_open, real_write = os.open, os.write
    written: list[Path] = []
    places: dict[int, Path] = {}

    def hit() -> bool:
        number = len(written) - 1
        return number == at or (forever and number > at)

    def open_file(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        of_device = root in getattr(path, "parents", ()) and flags & os.O_ACCMODE
        if not of_device:
            return real_open(path, flags, *rest, **more)
        written.append(path)
        if hit() and fault == "EACCES":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        if hit() and fault == "gone":
            path.unlink(missing_ok=True)
        # The files of a kernel do not become empty by being opened.
        place = real_open(path, flags & ~os.O_TRUNC, *rest, **more)
        places[place] = path
        return place

    def write_file(place: int, data: bytes) -> int:
        if place not in places or os.readlink(f"/proc/self/fd/{place}") != str(places[place]):
            return real_write(place, data)
        if hit() and fault.startswith("E"):
            raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)))
        if hit() and fault == "short":
            return len(data) - 1
        taken = places[place].read_text() if hit() and fault == "clamped" else data.decode()
        os.ftruncate(place, 0)
        real_write(place, taken.encode())
        return len(data)

    with patch.context() as inner:
        inner.setattr(os, "open", open_file)
        inner.setattr(os, "write", write_file)
        yield written
