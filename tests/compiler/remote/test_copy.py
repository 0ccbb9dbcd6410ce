"""What a device sends back is hostile: every stream here is made to do harm or broken."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.compiler.errors import RemoteError
from skipc.compiler.remote.copy import StreamEndedError, read_tar, write_tar

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"engines.json": b"{}", "full.engine": b"f" * 1000, "deep/er/x.bin": b""}
SIZES = {name: len(data) for name, data in FILES.items()}


def _member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), link
    return info, data


def _tar(*members, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _whole(form: int = tarfile.GNU_FORMAT, sizes: dict[str, bytes] = FILES) -> bytes:
    return _tar(
        _member("cpu", kind=tarfile.DIRTYPE),
        *(_member(f"cpu/{name}", data) for name, data in sizes.items()),
        form=form,
    )


def _left(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]
)
def test_files_are_read_as_they_were_sent(tmp_path: Path, form: int) -> None:
    folder = _member("cpu/deep", kind=tarfile.DIRTYPE)
    files = [_member(f"cpu/{name}", data) for name, data in FILES.items()]
    read_tar(io.BytesIO(_tar(folder, *files, form=form)), "cpu", SIZES, tmp_path)
    assert _left(tmp_path) == FILES


def test_long_names_pass(tmp_path: Path) -> None:
    name = "/".join(["long" * 20] * 9) + "é"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO(_whole(form, {name: b"x"}))
        read_tar(stream, "cpu", {name: 1}, tmp_path / str(form))
        assert _left(tmp_path / str(form)) == {name: b"x"}


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 70_000)
    out = io.BytesIO()
    write_tar(out, {"cpu/a": tmp_path / "a", "cpu/c/b": tmp_path / "b"})
    out.seek(0)
    read_tar(out, "cpu", {"a": 70_000, "c/b": 70_000}, tmp_path / "there")
    assert _left(tmp_path / "there") == {"a": b"a" * 70_000, "c/b": b"b" * 70_000}


def test_a_file_that_cannot_be_sent_is_named(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="gone: cannot be copied"):
        write_tar(io.BytesIO(), {"gone": tmp_path / "gone"})


@pytest.mark.parametrize(
    ("member", "told"),
    [
        (_member("cpu/../../full.engine", b"x"), "leads out of the bundle"),
        (_member("../full.engine", b"x"), "leads out of the bundle"),
        (_member("/cpu/full.engine", b"x"), "leads out of the bundle"),
        (_member("./cpu/full.engine", b"x"), "leads out of the bundle"),
        (_member("cpu\\full.engine", b"x"), "leads out of the bundle"),
        (_member("c:/full.engine", b"x"), "leads out of the bundle"),
        (_member("cpu/\x1b[2J", b"x"), "not portable"),
        (_member("cpu/..", kind=tarfile.DIRTYPE), "leads out of the bundle"),
        (_member("full.engine", FILES["full.engine"]), "is not a file that"),
        (_member("other/full.engine", FILES["full.engine"]), "is not a file that"),
        (_member("cpu/more", b"x"), "is not a file that"),
        (_member("cpu/more", kind=tarfile.DIRTYPE), "is a folder that no file"),
        (_member("cpu/full.engine", kind=tarfile.DIRTYPE), "is a folder that no file"),
        (_member("cpu/full.engine", b"x"), "has 1 bytes; 1000 are listed"),
        (_member("cpu/full.engine", b"x" * 1001), "has 1001 bytes; 1000 are listed"),
        (_member("cpu/full.engine", kind=tarfile.SYMTYPE, link="/x"), "a symbolic link"),
        (_member("cpu/full.engine", kind=tarfile.LNKTYPE, link="cpu"), "a hard link"),
        (_member("cpu/full.engine", kind=tarfile.CHRTYPE), "a device"),
        (_member("cpu/full.engine", kind=tarfile.BLKTYPE), "a device"),
        (_member("cpu/full.engine", kind=tarfile.FIFOTYPE), "a pipe"),
        (_member("cpu/full.engine", kind=tarfile.CONTTYPE), "of another kind"),
        (_member("cpu/engines.json", b"{}"), "comes twice"),
        (_member("cpu", kind=tarfile.DIRTYPE), "comes twice"),
    ],
)
def test_everything_else_is_refused(tmp_path: Path, member, told: str) -> None:
    first = _member("cpu/engines.json", FILES["engines.json"])
    stream = _tar(_member("cpu", kind=tarfile.DIRTYPE), first, member)
    (tmp_path / "in").mkdir()
    with pytest.raises(RemoteError, match=told) as refused:
        read_tar(io.BytesIO(stream), "cpu", SIZES, tmp_path / "in")
    assert "Nothing was taken over" in str(refused.value)
    assert not isinstance(refused.value, StreamEndedError)
    assert "\x1b" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert _left(tmp_path / "in") == {"engines.json": b"{}"}


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    info, data = _member("cpu/full.engine", FILES["full.engine"])
    info.pax_headers = {"GNU.sparse.map": "0,1000", "GNU.sparse.size": "1000"}
    stream = _tar((info, data), form=tarfile.PAX_FORMAT)
    with pytest.raises(RemoteError, match="not a regular file"):
        read_tar(io.BytesIO(stream), "cpu", SIZES, tmp_path)


class _Endless(io.RawIOBase):
    """A header and then zeros for ever; counts what is read of them."""

    def __init__(self, start: bytes) -> None:
        self.start = start
        self.count_bytes = 0

    def read(self, size: int = -1) -> bytes:
        assert self.count_bytes < 1 << 20
        data, self.start = self.start[:size], self.start[size:]
        self.count_bytes += size
        return data + b"x" * (size - len(data))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_huge_header_is_not_read_into_memory(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("cpu/x")
    info.type, info.size = kind, 8 << 30
    stream = _Endless(info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(RemoteError, match="claims more than any path needs"):
        read_tar(stream, "cpu", SIZES, tmp_path)  # type: ignore[arg-type]
    assert stream.count_bytes < 1 << 17


def test_headers_before_headers_are_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("cpu/x")
    info.type = tarfile.XHDTYPE
    with pytest.raises(RemoteError):
        read_tar(io.BytesIO(info.tobuf() * 5000), "cpu", SIZES, tmp_path)


def test_text_before_the_archive_is_told(tmp_path: Path) -> None:
    stream = io.BytesIO(b"Welcome to \x1b[1medge\n" + _whole())
    with pytest.raises(RemoteError, match=r"begins with 'Welcome to \?\[1medge") as told:
        read_tar(stream, "cpu", SIZES, tmp_path)
    assert ".bashrc" in str(told.value)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 600, 1024, 1100, 1536, 2200])
def test_a_truncated_stream_is_told(tmp_path: Path, size: int) -> None:
    with pytest.raises(StreamEndedError, match=f"after {size} bytes") as told:
        read_tar(io.BytesIO(_whole()[:size]), "cpu", SIZES, tmp_path)
    assert "connection broke" in str(told.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    some = {name: data for name, data in FILES.items() if name != "full.engine"}
    with pytest.raises(RemoteError, match=r"without 'full\.engine'"):
        read_tar(io.BytesIO(_whole(sizes=some)), "cpu", SIZES, tmp_path)


def test_a_file_in_the_way_is_not_followed(tmp_path: Path) -> None:
    both = {"a": b"x", "a/b": b"y"}
    with pytest.raises(RemoteError, match="cannot be written"):
        read_tar(io.BytesIO(_whole(sizes=both)), "cpu", {"a": 1, "a/b": 1}, tmp_path)


@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), max_size=8))
def test_damage_is_refused_or_harmless(tmp_path_factory, flips) -> None:
    data = bytearray(_whole())
    for place, value in flips:
        data[place] = value
    folder = tmp_path_factory.mktemp("damage")
    (folder / "in").mkdir()
    try:
        read_tar(io.BytesIO(bytes(data)), "cpu", SIZES, folder / "in")
    except RemoteError:
        pass
    else:
        assert {name: len(d) for name, d in _left(folder / "in").items()} == SIZES
    assert [path.name for path in folder.iterdir()] == ["in"]
