"""Files and folders that appear whole or not at all, whatever happens while they are written.

Each is written under a hidden name beside its place and changes places with what is there in
one step of the file system, so that at every moment the old one or the new one is there. What
a process that was killed left is removed by the next that writes to the same place: whoever
writes holds a lock, which goes with it.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import re
import secrets
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipc.runtime.bundle.folder import file_sha256
from skipc.runtime.bundle.manifest import FileEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SUFFIX = ".skipc-tmp"
_AT_FDCWD = -100
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def write_whole(path: Path, data: bytes) -> None:
    """Writes ``data`` whole or not at all; an ``OSError`` names ``path``."""
    with _place_beside(path, lambda place: place.touch(exist_ok=False)) as place:
        with place.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        place.replace(path)


def write_json(path: Path, document: object) -> None:
    """Writes a JSON document, whole or not at all; an ``OSError`` names ``path``."""
    write_whole(path, json.dumps(document, indent=1).encode() + b"\n")


def check_writable(path: Path) -> None:
    """Checks, before the work is done, that something can be written beside ``path``."""
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as cause:
        raise OSError(cause.errno, cause.strerror, str(path)) from cause


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes ``path`` if the block ends well.

    A folder already at ``path`` is replaced as the last step; an exception, Ctrl-C included,
    removes the temporary folder and leaves ``path`` as it was. An ``OSError`` names the place,
    not the temporary one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _place_beside(path, Path.mkdir) as staging:
        yield staging
        for written in (*staging.rglob("*"), staging):
            _sync(written)
        if path.exists():
            _exchange(staging, path)  # what was there is then removed as the temporary one
        else:
            staging.rename(path)
        _sync(path.parent)


@contextmanager
def _place_beside(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yields a new place beside ``path``, locked, and gone after the block."""
    _remove_leftovers(path)
    lock = None
    while True:
        place = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
        with _errors_name(path, place):
            make(place)
        try:
            lock = _lock(place)
        except (BlockingIOError, FileNotFoundError):
            continue  # just made, it passed for what a killed process left
        except OSError:
            pass  # no locks here, so that nothing is ever taken for left
        break
    try:
        with _errors_name(path, place):
            yield place
    finally:
        _remove(place)
        if lock is not None:
            os.close(lock)


def _remove_leftovers(path: Path) -> None:
    """Removes what killed processes left beside ``path``; puts back what one took away."""
    left = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}{re.escape(_SUFFIX)}")
    with suppress(OSError):
        names = os.listdir(path.parent)
        if _taken_away(path).name in names:
            if not path.exists():
                _taken_away(path).rename(path)
            _remove(_taken_away(path))
        for place in (path.with_name(name) for name in names if left.fullmatch(name)):
            with suppress(OSError):  # at work, or somebody else's
                lock = _lock(place)
                _remove(place)
                os.close(lock)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        with suppress(OSError):
            place.unlink()


def _lock(place: Path) -> int:
    """Returns the descriptor that holds the lock of a place, and lets go when it is closed.

    Raises:
        BlockingIOError: Another process has it.
        FileNotFoundError: Another process had it, and has removed the place.
        OSError: There are no locks here.
    """
    try:
        import fcntl
    except ImportError as cause:  # Windows
        raise OSError(errno.ENOSYS, "no locks") from cause
    lock = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), place.stat()):
            return lock
        raise FileNotFoundError(errno.ENOENT, "replaced", str(place))
    except BaseException:
        os.close(lock)
        raise


def _exchange(new: Path, path: Path) -> None:
    """Lets two folders change places: in one step, where the system has one for it."""
    system: Any = ctypes.CDLL(None) if os.name == "posix" else None
    names = os.fsencode(new), os.fsencode(path)
    if hasattr(system, "renameat2"):
        done = system.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE)
    elif hasattr(system, "renamex_np"):
        done = system.renamex_np(*names, _EXCHANGE)
    else:
        done = -1
    if done == 0:
        return
    # The file system may not be able to; whatever else is wrong, these say so, too. Who is
    # killed between them leaves what `_remove_leftovers` puts back.
    path.rename(_taken_away(path))
    try:
        new.rename(path)
    except BaseException:
        _taken_away(path).rename(path)
        raise
    _remove(_taken_away(path))


def _taken_away(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced{_SUFFIX}")


def _sync(path: Path) -> None:
    """Has a file, or a folder's names, on the disk, so that losing power changes nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as cause:
        if cause.errno in _OF_THE_DISK:
            raise


@contextmanager
def _errors_name(path: Path, place: Path) -> Iterator[None]:
    """Makes system errors about ``place`` name ``path``; a full disk has no name."""
    try:
        yield
    except OSError as cause:
        name = "" if cause.filename is None else os.fsdecode(cause.filename)
        if cause.errno is None or not (
            name.startswith(str(place)) or (not name and cause.errno in _OF_THE_DISK)
        ):
            raise
        where = f"{path}{name.removeprefix(str(place))}"
        raise OSError(cause.errno, cause.strerror, where) from cause


def checkpoint_sha256(path: Path) -> str:
    """Returns the hash of a file, read again only where its size or times changed."""
    found = path.stat()
    return _known_sha256(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@functools.lru_cache(maxsize=4)
def _known_sha256(path: Path, *_state: int) -> str:
    return file_sha256(path)


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """Returns one entry per file below ``folder``, sorted by path."""
    entries = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file():
            entries.append(FileEntry(relative, path.stat().st_size, file_sha256(path)))
    return tuple(entries)
