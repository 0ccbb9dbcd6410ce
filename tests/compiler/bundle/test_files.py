from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from skipc.compiler.bundle.files import staged_folder, write_whole

if TYPE_CHECKING:
    from pathlib import Path


def test_files_and_folders_replace_what_is_there_as_a_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    write_whole(tmp_path / "file", b"new")
    for content in (b"1", b"2"):
        with staged_folder(tmp_path / "folder") as staging:
            (staging / "inner").write_bytes(content)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "folder/inner").read_bytes() == b"2"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ZeroDivisionError), staged_folder(folder) as staging:
        (staging / "half").write_bytes(bytes(1 // 0))
    assert list(tmp_path.rglob("*")) == [folder]


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "file"
    with pytest.raises(FileNotFoundError) as raised:
        write_whole(missing, b"")
    assert raised.value.filename == str(missing)
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError) as refused:
        write_whole(tmp_path / "taken", b"")
    assert str(refused.value) == f"[Errno {errno.EISDIR}] Is a directory: '{tmp_path}/taken'"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_killed_at_any_operation_the_old_or_the_new_one_is_there(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.compiler.bundle.killed", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = {line.split()[0]: line.split()[2:] for line in done.stdout.splitlines()}
    assert seen["replace_folder"] == seen["replace_file"] == ["new", "old"]
    # Without an exchange there is a moment with nothing, which the next run takes back.
    assert seen["replace_folder_in_two_steps"] == ["new", "nothing", "old"]


def test_what_somebody_else_has_there_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / ".bundle.0123456.skipc-tmp"
    mine.mkdir()
    (tmp_path / ".bundle.old.tmp").write_bytes(b"")
    linked = tmp_path / ".bundle.01234567.skipc-tmp"
    linked.symlink_to(mine)
    with staged_folder(tmp_path / "bundle") as first:
        (first / "content").write_bytes(b"1")
        with staged_folder(tmp_path / "bundle"):
            assert first.is_dir()  # of a run that is at work
    assert (tmp_path / "bundle/content").read_bytes() == b"1"
    assert sorted(os.listdir(tmp_path)) == sorted(
        [mine.name, linked.name, ".bundle.old.tmp", "bundle"]
    )


@pytest.mark.parametrize("whole", [True, False])
def test_a_full_disk_names_the_place(tmp_path: Path, whole: bool) -> None:
    place = tmp_path / "bundle"

    def write() -> None:
        if whole:
            write_whole(place, bytes(2000))
            return
        with staged_folder(place) as folder, (folder / "weights").open("wb") as file:
            file.write(bytes(2000))
            file.flush()

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as raised:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.filename == str(place)
    assert not os.listdir(tmp_path)
