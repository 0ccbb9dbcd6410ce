"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.runtime.manifest import FileEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BYTES = 1 << 20


def write_whole(path: Path, data: bytes) -> None:
    """Writes ``data`` to a temporary file beside ``path`` and renames it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes ``path`` if the block ends well.

    A folder already at ``path`` is replaced as the last step; an exception, Ctrl-C included,
    removes the temporary folder and leaves ``path`` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield staging
        umask = os.umask(0)
        os.umask(umask)
        staging.chmod(0o777 & ~umask)
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


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def file_entries(folder: Path, exclude: frozenset[str] = frozenset()) -> tuple[FileEntry, ...]:
    """Returns one entry per file below ``folder``, sorted by path."""
    entries = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and relative not in exclude:
            entries.append(FileEntry(relative, path.stat().st_size, sha256_of(path)))
    return tuple(entries)
