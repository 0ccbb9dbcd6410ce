"""Paths that may not leave their folder, whatever the file that names them says."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from ..errors import FormatError, IntegrityError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from pathlib import Path


def check_relative(path: str, where: str) -> None:
    """Checks that ``path`` has the form every path in a bundle must have.

    Raises:
        IntegrityError: It is absolute, holds ``..``, ``.`` or an empty part, a backslash,
            a colon (a drive letter on Windows) or an unprintable character.
    """
    parts = path.split("/")
    bad = any(part in ("", ".", "..") for part in parts)
    if bad or "\\" in path or ":" in path or not path.isprintable():
        raise IntegrityError(
            f"{where}: {path[:200]!r} leads out of the bundle or is not portable. Expected"
            " names joined by '/', without '..', a leading '/', a backslash or a colon."
        )


def check_beside(store: str, files: Iterable[str], where: str) -> None:
    """Raises ``FormatError`` where an ONNX file is not in the folder of its store."""
    folder = store.rpartition("/")[0]
    for file in files:
        if file.rpartition("/")[0] != folder:
            raise FormatError(f"{where}: {file!r} does not lie in the folder of {store!r}.")


def inside(root: Path, relative: str) -> Path:
    """Returns ``root / relative``, which need not exist.

    Raises:
        IntegrityError: ``relative`` is malformed, or a symbolic link on the way leads out.
    """
    check_relative(relative, str(root))
    path = root / relative
    try:
        leaves = not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as cause:  # RuntimeError: a loop of links, up to 3.12
        raise IntegrityError(f"{path}: cannot be followed: {cause}.") from cause
    if leaves:
        raise IntegrityError(
            f"{path}: a symbolic link that leads out of {root}. Replace it by the file."
        )
    return path


def names_in(folder: Path) -> list[str]:
    """Returns the names of what lies in a folder, sorted; ``IntegrityError`` if it cannot."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError as cause:
        raise IntegrityError(f"{folder}: cannot be read: {cause.strerror}.") from cause


def status_of(path: Path) -> os.stat_result | None:
    """Returns what the system says of a path, links followed; None if nothing is there.

    Raises ``IntegrityError`` where it cannot be told: a folder on the way may not be entered.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as cause:
        raise IntegrityError(f"{path}: cannot be read: {cause.strerror}.") from cause


def regular_file(root: Path, relative: str, size_bytes: int | None = None) -> Path:
    """Returns ``root / relative``, a regular file of ``size_bytes`` where given.

    Raises:
        IntegrityError: It leads out, is missing, is a folder, pipe or device, or has
            another size.
    """
    path = inside(root, relative)
    try:
        status = path.stat()
    except OSError as cause:
        raise IntegrityError(f"{path}: missing or unreadable: {cause.strerror}.") from cause
    if not stat.S_ISREG(status.st_mode):
        raise IntegrityError(f"{path}: not a regular file.")
    if size_bytes is not None and status.st_size != size_bytes:
        kind = "truncated" if status.st_size < size_bytes else "too long"
        raise IntegrityError(
            f"{path}: {kind}: {status.st_size} bytes, but {size_bytes} are listed."
            " Copy the bundle again."
        )
    return path
