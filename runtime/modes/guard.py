"""What was in force before modes were changed, on disk until it is in force again.

One file in a folder of the user's, and a lock beside it. The file is written, and on the disk,
before anything is changed: whatever ends the process, the next that opens modes finds it. It
is data from a disk, and names no file: the values in it are checked against what the device
offers before one of them is written.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..bundle.constraints import Count, Text
from ..bundle.records import parse_json, read, written
from ..errors import ModeError, reason_of

_FILE, _HALF, _LOCK = "modes.json", ".modes.json.half", "modes.lock"
_MOST_BYTES = 1 << 20  # some hundred limits; no machine has as many
_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# How long what a process that was killed had begun (nvpmodel) may hold the lock.
_LONGEST_S, _PAUSE_S = 30.0, 0.02


@dataclass(frozen=True, slots=True)
class Before:
    """What was in force before a process changed modes.

    ``settings`` are by kind, then by what is set. ``boot_id`` tells which start of the system
    it was, as the kernel calls it; empty where it does not.
    """

    FORMAT: ClassVar[str] = "skipc.modes/1"
    AGAIN: ClassVar[str] = "set the modes yourself, and remove the file"

    pid: Count
    boot_id: Text
    settings: Mapping[str, Mapping[str, str]]


def guard_folder() -> Path:
    """Returns where this user's guard is; a start of the system does not empty it.

    A Jetson starts in the mode that it was in, so what was before must not be lost with the
    power.

    Raises:
        ModeError: The system has no modes that could be changed.
    """
    if os.name != "posix":
        raise ModeError("power modes are changed on Linux alone. Leave them out here.")
    if os.geteuid() == 0:
        return Path("/var/lib/skipc")
    state = os.environ.get("XDG_STATE_HOME", "")
    home = Path(state) if state.startswith("/") else Path.home() / ".local/state"
    return home / "skipc"


def guard_file(folder: Path) -> Path:
    """Returns the file that is in a guard's folder while something is to be put back."""
    return folder / _FILE


class Guard:
    """The file and the lock; whoever has one alone may change modes.

    Raises:
        ModeError: Another process has it, or nothing can be kept in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = -1
        try:
            _own_folder(folder)
            self.lock = _locked(folder / _LOCK)
        except OSError as cause:
            raise ModeError(
                f"{folder}: what is in force before modes are changed is kept there, which"
                f" cannot be: {cause.strerror or cause}. It must be a folder of this user's."
            ) from cause
        _HELD.add(self)
        with suppress(OSError):  # of a process that was killed while it wrote
            (folder / _HALF).unlink()

    @property
    def file(self) -> Path:
        """Where it says what was in force."""
        return guard_file(self.folder)

    def left(self) -> Before | None:
        """Returns what a process left that could not put it back; None if none did.

        Raises:
            ModeError: The file is none that skipc wrote.
        """
        try:
            place = os.open(self.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as cause:
            raise self._bad(cause.strerror or reason_of(cause)) from cause
        with os.fdopen(place, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise self._bad("it is no file of this user's")
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise self._bad(f"it has more than {_MOST_BYTES} bytes")
        try:
            return read(Before, parse_json(data, _FILE, ModeError), _FILE, ModeError)
        except ModeError as cause:
            raise self._bad(str(cause).rstrip(".")) from cause

    def write(self, before: Before) -> None:
        """Keeps what is in force, on the disk when this returns; whole or not at all."""
        half = self.folder / _HALF
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(half, flags, 0o644), "wb") as file:
                file.write(json.dumps(written(before), indent=1).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            half.replace(self.file)
            self._sync()
        except OSError as cause:
            with suppress(OSError):
                half.unlink()
            raise ModeError(
                f"{self.file}: what is in force cannot be kept: {cause.strerror}. Nothing was"
                " changed."
            ) from cause

    def remove(self) -> None:
        """Forgets what was in force, which is in force again."""
        try:
            self.file.unlink(missing_ok=True)
            self._sync()
        except OSError as cause:
            raise ModeError(
                f"{self.file}: cannot be removed: {cause.strerror}. All is as it was; remove"
                " it yourself."
            ) from cause

    def release(self) -> None:
        """Lets another process have it."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _sync(self) -> None:
        place = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(place)
        finally:
            os.close(place)

    def _bad(self, why: str) -> ModeError:
        return ModeError(
            f"{self.file} should say what was in force before modes were changed, and cannot"
            f" be used: {why}. Set the modes yourself, and remove it."
        )


_HELD: weakref.WeakSet[Guard] = weakref.WeakSet()


def _after_fork() -> None:
    """Leaves the locks to the parent, which a child could outlive."""
    for guard in list(_HELD):
        guard.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _own_folder(folder: Path) -> None:
    """Makes a folder, or checks that nobody else can put something into it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o755)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.ENOTDIR, "it is no folder")
    if found.st_uid != os.geteuid():
        raise OSError(errno.EPERM, "it belongs to somebody else")
    if found.st_mode & _BY_OTHERS:
        raise OSError(errno.EPERM, "others may write into it")


def _locked(path: Path) -> int:
    """Returns the descriptor that holds the lock; it goes when that is closed.

    It is of the open file, not of the process: a program that was started with it keeps it.
    """
    import fcntl  # Windows has none, and no modes that could be changed

    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(path, flags, 0o600)
    end_s = time.monotonic() + _LONGEST_S
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as cause:
                owner = os.pread(lock, 20, 0).decode(errors="replace").strip()
                if _runs(owner) or time.monotonic() >= end_s:
                    raise _held(path, owner) from cause
                time.sleep(_PAUSE_S)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _held(path: Path, owner: str) -> ModeError:
    who = (
        "this process" if owner == str(os.getpid()) else f"the process {owner or '(not told)'}"
    )
    return ModeError(
        f"{who} changes the modes of this device now ({path} is its lock), and one at a time"
        " may. Close it first."
    )


def _runs(pid: str) -> bool:
    """Tells whether a process runs; one that cannot be asked does."""
    if not pid.isdecimal() or int(pid) == 0:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
