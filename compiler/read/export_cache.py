"""Exports on disk: the next command on a checkpoint takes what the last one made.

``FOLDER/<key>/`` is one entry, ``files.json`` in it names every file with its hash. Entries
appear whole or not at all, so several processes may use a folder at once. What is not as it
was written is thrown away. Whatever goes wrong costs an export, never a command.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from skipc.compiler.bundle.files import file_entries, staged_folder, write_whole
from skipc.compiler.errors import CompileError
from skipc.compiler.extras import require
from skipc.runtime.bundle.manifest import FileEntry  # noqa: TC001  (a document's field)
from skipc.runtime.bundle.records import read, read_json, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

LIMIT_BYTES = 4_000_000_000
"""Holds the exports of some ten networks of 90 million parameters."""

FILES = "files.json"

_ABANDONED_S = 24 * 3600.0
"""After this long a folder that never got its name belongs to nobody any more."""

_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class EntryFiles:
    """What an entry is found by, and holds besides this."""

    FORMAT: ClassVar[str] = "skipc.export-files/1"

    key: str
    files: tuple[FileEntry, ...]


class ExportCache:
    """A folder of exports, made for its owner alone; the ones used last are kept.

    ``note`` is told in one line what is not cached and why, or what was thrown away.
    """

    def __init__(
        self, folder: Path, note: Callable[[str], None], limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self._folder = folder
        self._note = note
        self._limit_bytes = limit_bytes

    def read(self, key: str, load: Callable[[Path], T]) -> T | None:
        """Returns what ``load`` makes of the entry's folder, None where there is none.

        It must not need the folder any more: another process may throw it away at any time.
        """
        entry = self._folder / key
        try:
            _check_own(self._folder)
            _check_files(entry, key)
            found = load(entry)
            os.utime(entry)
        except FileNotFoundError:
            return None  # there is none, or it is being thrown away
        # A damaged entry makes the readers of its files raise anything.
        except Exception as cause:
            if not isinstance(cause, _FolderError):
                self.drop(key, cause)
            return None
        return found

    def write(self, key: str, save: Callable[[Path], None]) -> None:
        """Keeps the files that ``save`` writes into the folder that it is given."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_own(self._folder)
            if (self._folder / key).exists():  # another process was faster
                return
            with staged_folder(self._folder / key) as staged:
                save(staged)
                files = EntryFiles(key, file_entries(staged))
                self._make_room(sum(file.size_bytes for file in files.files))
                write_whole(staged / FILES, json.dumps(written(files)).encode())
        # PyTorch's and ONNX's writers raise what they like.
        except Exception as cause:
            self.refuse(str(cause))

    def drop(self, key: str, cause: Exception) -> None:
        """Throws away an entry that is not what was written."""
        entry = self._folder / key
        shutil.rmtree(entry, ignore_errors=True)
        self._note(f"{entry}: damaged, so it is thrown away and exported again: {cause}")

    def refuse(self, reason: str) -> None:
        """Tells that an export is not cached, and why."""
        self._note(f"The export is not cached, the next command makes it again: {reason}")

    def _make_room(self, wanted_bytes: int) -> None:
        """Removes the entries used longest ago until ``wanted_bytes`` more fit in."""
        if wanted_bytes > self._limit_bytes:
            raise _FolderError(
                f"it has {wanted_bytes} bytes, and {self._folder} may hold"
                f" {self._limit_bytes}."
            )
        found = sorted(self._entries())
        used_bytes = sum(size_bytes for _, size_bytes, _ in found)
        for _, size_bytes, path in found:
            if used_bytes + wanted_bytes <= self._limit_bytes:
                break
            shutil.rmtree(path, ignore_errors=True)
            used_bytes -= size_bytes

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Yields time of use, bytes and folder of each entry; removes abandoned ones."""
        for path in self._folder.iterdir():
            try:
                used_s = path.lstat().st_mtime
                if path.name.startswith("."):  # being written, or left by a crash
                    if time.time() - used_s > _ABANDONED_S:
                        shutil.rmtree(path, ignore_errors=True)
                    continue
                yield used_s, sum(file.stat().st_size for file in path.iterdir()), path
            except OSError:  # another process was faster
                continue


class _FolderError(CompileError):
    """Nothing can be kept in the folder."""


def default_folder() -> Path:
    """Returns where exports are kept: in the user's cache folder."""
    return Path(require("platformdirs", "compiler").user_cache_dir("skipc")) / "exports"


def _check_own(folder: Path) -> None:
    """Checks that nobody else can put something into a folder, which must exist."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise _FolderError(f"{folder} is no folder. Remove it.")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise _FolderError(f"{folder} belongs to somebody else. Remove it.")
    if os.name == "posix" and found.st_mode & _BY_OTHERS:
        raise _FolderError(
            f"others may write into {folder}. Remove it, or take that away: chmod go-w"
        )


def _check_files(entry: Path, key: str) -> None:
    """Checks that an entry holds the files that were written, and no others; it must exist."""
    if not stat.S_ISDIR(entry.lstat().st_mode):
        raise CompileError("it is no folder.")
    said = read(EntryFiles, read_json(entry / FILES), FILES)
    for path in entry.iterdir():
        if not stat.S_ISREG(path.lstat().st_mode):
            raise CompileError(f"{path.name!r} is no file.")
    held = tuple(file for file in file_entries(entry) if file.path != FILES)
    if said.key != key or held != said.files:
        raise CompileError("its files are not those that were written.")
