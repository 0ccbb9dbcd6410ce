"""Which profile suits the machine: read from its device tree and its files, nothing is run."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.profiles import load_profile, profile_names

if TYPE_CHECKING:
    from skipc.profiles import Board, Profile

_COMPATIBLE = "proc/device-tree/compatible"
_MAX_BYTES = 65536  # of a real one a few hundred
_SAME_MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Detected:
    """What a machine is.

    Attributes:
        profile: The profile's name.
        board: The board's name; empty where the profile has none or it is not known which.
        reason: What was found that says so, and what was found and could not be used.
    """

    profile: str
    board: str
    reason: str


def detect(root: Path = Path("/"), machine: str | None = None) -> Detected:
    """Returns the profile that suits a machine, of those that come with skipc.

    The device tree is asked first, then files, then the fallback is taken. A module that no
    profile knows is never taken for another one: what is right for it is then found as if
    there were no device tree, and the reason says so. ``root`` is the folder to take for
    ``/``, ``machine`` what ``platform.machine()`` says.
    """
    machine = machine_name(machine)
    profiles = [load_profile(name) for name in profile_names()]
    entries, notes = _compatible(root)
    fitting = [
        profile
        for profile in profiles
        if any(_named(text, entries) for text in profile.detect.compatible)
    ]
    for profile in fitting:
        if not _runs_on(profile, machine):
            notes.append(
                f"The device tree fits {profile.name}, but that needs"
                f" {profile.architecture} and this system is {machine}."
            )
    fitting = [profile for profile in fitting if _runs_on(profile, machine)]
    for profile in fitting:
        found = _board(profile, entries)
        if found is not None:
            return _detected(profile, *found, notes)
    if fitting:
        names = ", ".join(profile.name for profile in fitting)
        notes.append(
            f"The device tree ({', '.join(entries)}) fits {names}, but names a module that"
            " no profile knows, so no board's numbers are taken for it."
        )
    for profile in profiles:
        for file in profile.detect.files:
            if _runs_on(profile, machine) and os.path.exists(root / file.lstrip("/")):
                return _detected(profile, "", f"{file} exists.", notes)
    fallback = next(profile for profile in profiles if profile.detect.fallback)
    return _detected(fallback, "", "Nothing was found that another target needs.", notes)


def machine_name(machine: str | None = None) -> str:
    """Returns the CPU's architecture as profiles name it; see ``detect``."""
    said = platform.machine() if machine is None else machine
    return _SAME_MACHINE.get(said.lower(), said)


def _detected(profile: Profile, board: str, reason: str, notes: list[str]) -> Detected:
    return Detected(profile.name, board, " ".join([*notes, reason]))


def _compatible(root: Path) -> tuple[tuple[str, ...], list[str]]:
    """Returns the entries of the device tree's ``compatible``, and what hindered reading."""
    try:
        with (root / _COMPATIBLE).open("rb") as file:
            data = file.read(_MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return (), []
    except OSError as cause:
        return (), [f"/{_COMPATIBLE} cannot be read: {cause.strerror}."]
    text = data.decode("utf-8", errors="replace")
    return tuple(entry for entry in text.split("\0") if entry), []


def _named(text: str, entries: tuple[str, ...]) -> bool:
    return any(text in entry for entry in entries)


def _runs_on(profile: Profile, machine: str) -> bool:
    return profile.architecture in ("any", machine)


def _board(profile: Profile, entries: tuple[str, ...]) -> tuple[str, str] | None:
    """Returns the board of a profile that fits and the reason; None: an unknown module."""
    for board in profile.boards:
        named = _module(board, entries)
        if named:
            return board.name, f"The device tree names the module {named}."
    if any(board.module_ids for board in profile.boards):
        return None
    known = next(text for text in profile.detect.compatible if _named(text, entries))
    board_name = profile.boards[0].name if len(profile.boards) == 1 else ""
    return board_name, f"The device tree names {known}."


def _module(board: Board, entries: tuple[str, ...]) -> str:
    """Returns the board's module id that an entry holds as a whole word, or ""."""
    for module in board.module_ids:
        word = re.compile(rf"(?<![0-9A-Za-z]){re.escape(module)}(?![0-9A-Za-z])")
        if any(word.search(entry) for entry in entries):
            return module
    return ""
