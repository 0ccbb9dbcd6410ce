"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.runtime.bundle.manifest import FileEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BYTES = 1 << 20


def write_whole(path: Path, data: bytes) -> None:
    """Writes ``data`` to a temporary file beside ``path`` and renames it.

    Raises:
        OSError: It cannot be written; the error names ``path``.
    """
    with _errors_name(path):
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
        )
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_json(path: Path, document: object) -> None:
    """Writes a JSON document, whole or not at all.

    Raises:
        OSError: It cannot be written; the error names ``path``.
    """
    write_whole(path, json.dumps(document, indent=1).encode() + b"\n")


def check_writable(path: Path) -> None:
    """Checks, before the work is done, that something can be written beside ``path``.

    Raises:
        OSError: It cannot; the error names ``path``.
    """
    with _errors_name(path), tempfile.TemporaryFile(dir=path.parent):
        pass


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes ``path`` if the block ends well.

    A folder already at ``path`` is replaced as the last step; an exception, Ctrl-C included,
    removes the temporary folder and leaves ``path`` as it was.

    Raises:
        OSError: The folder cannot be made or replaced; the error names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _errors_name(path):
        staging = Path(
            tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        )
    try:
        yield staging
        with _errors_name(path):
            staging.chmod(0o777 & ~_umask())
            if path.exists():
                _replace_folder(path, staging)
            else:
                staging.rename(path)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _replace_folder(path: Path, new: Path) -> None:
    """Moves ``new`` to ``path``; what was there is removed only after that went well."""
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    kept = old / path.name
    try:
        path.rename(kept)
        new.rename(path)
    except BaseException:
        if kept.exists() and not path.exists():
            kept.rename(path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Makes system errors name ``path``: the user never sees the temporary name beside it."""
    try:
        yield
    except OSError as cause:
        if cause.errno is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from cause


def _umask() -> int:
    """Returns which permissions new files do not get; it can only be read by setting it."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def checkpoint_sha256(path: Path) -> str:
    """Returns ``sha256_of`` a file that a command asks for several times.

    It is read again only where its size or times changed.
    """
    found = path.stat()
    return _known_sha256(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@functools.lru_cache(maxsize=4)
def _known_sha256(path: Path, *_state: int) -> str:
    return sha256_of(path)


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """Returns one entry per file below ``folder``, sorted by path."""
    entries = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file():
            entries.append(FileEntry(relative, path.stat().st_size, sha256_of(path)))
    return tuple(entries)
