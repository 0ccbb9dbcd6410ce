"""What a device sends back is hostile: streams here are broken or made to do harm."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from skipc.compiler.errors import RemoteError
from skipc.compiler.remote.copy import StreamEndedError, read_files, write_tar

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"full.engine": b"f" * 1000, "empty": b"", "deep/er/x.bin": b"x" * 3_000_000}
SIZES = {name: len(data) for name, data in FILES.items()}
WHOLE = b"".join(FILES.values())


def _left(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_files_are_read_as_they_were_sent(tmp_path: Path) -> None:
    read_files(io.BytesIO(WHOLE), SIZES, tmp_path)
    assert _left(tmp_path) == FILES


def test_what_is_written_can_be_read_by_tar(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 70_000)
    out = io.BytesIO()
    write_tar(out, {"cpu/a": tmp_path / "a", "cpu/c/b": tmp_path / "b"})
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        sent = {member.name: archive.extractfile(member).read() for member in archive}
    assert sent == {"cpu/a": b"a" * 70_000, "cpu/c/b": b"b" * 70_000}


def test_a_file_that_cannot_be_sent_is_named(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="gone: cannot be copied"):
        write_tar(io.BytesIO(), {"gone": tmp_path / "gone"})


@pytest.mark.parametrize("size", [0, 1, 999, 1000, len(WHOLE) - 1])
def test_a_truncated_stream_is_told(tmp_path: Path, size: int) -> None:
    early = (1000 if size < 1000 else len(WHOLE)) - size
    with pytest.raises(StreamEndedError, match=f" {early} bytes too early") as told:
        read_files(io.BytesIO(WHOLE[:size]), SIZES, tmp_path)
    assert "connection broke" in str(told.value)


class _Endless(io.RawIOBase):
    """Sends for ever; counts what is read."""

    def __init__(self) -> None:
        self.count_bytes = 0

    def read(self, size: int = -1) -> bytes:
        assert 0 <= size <= 1 << 20
        self.count_bytes += size
        return b"x" * size


def test_no_more_is_read_than_is_listed(tmp_path: Path) -> None:
    stream = _Endless()
    with pytest.raises(RemoteError, match=r"more bytes than its engines\.json lists") as told:
        read_files(stream, SIZES, tmp_path)  # type: ignore[arg-type]
    assert "Nothing was taken over" in str(told.value)
    assert not isinstance(told.value, StreamEndedError)
    assert stream.count_bytes == len(WHOLE) + 1
    assert {name: len(data) for name, data in _left(tmp_path).items()} == SIZES


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_file_in_the_way_is_not_written_over(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(OSError, match=r"exists|directory"):
        read_files(io.BytesIO(b"xy"), dict.fromkeys(names, 1), tmp_path)
