from __future__ import annotations

import errno
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
