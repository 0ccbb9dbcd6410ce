"""Reading the kernel's one-line files, and what to say where that fails."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ..errors import MeterError, MeterUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

# A sensor on a busy bus answers EAGAIN now and then; one that keeps doing so is off.
_TRIES = 3


def read_text(path: Path) -> str:
    """Returns a file's text without white space around it.

    Raises:
        MeterUnavailableError: The file may not be read by this user.
        MeterError: It is gone, or its device does not answer.
    """
    for attempt in range(_TRIES):
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        except PermissionError as cause:
            raise MeterUnavailableError(
                f"{path}: this user may not read it (mode {_mode(path)}). As root: chmod a+r"
                f" {path}, or a udev rule that does so at every start (docs/meters.md)."
            ) from cause
        except OSError as cause:
            if cause.errno == errno.EAGAIN and attempt + 1 < _TRIES:
                continue
            raise MeterError(f"{path}: cannot be read: {cause.strerror}.") from cause
    raise AssertionError("unreachable: the last try returns or raises")


def read_number(path: Path) -> int:
    """Returns the whole number that a file holds, or raises as ``read_text`` does."""
    text = read_text(path)
    try:
        return int(text)
    except ValueError as cause:
        raise MeterError(f"{path}: holds {text[:40]!r}, expected a whole number.") from cause


def read_optional_number(path: Path) -> int | None:
    """Returns the whole number that a file holds, None where it has none to give."""
    try:
        return read_number(path)
    except MeterError:
        return None


def read_optional_text(path: Path) -> str:
    """Returns a file's text, empty where it cannot be read."""
    try:
        return read_text(path)
    except MeterError:
        return ""


def _mode(path: Path) -> str:
    try:
        return f"{path.stat().st_mode & 0o777:03o}"
    except OSError:
        return "unknown"
