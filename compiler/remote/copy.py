"""Files over a stream, both ways, as tar. What comes back is taken to be hostile."""

from __future__ import annotations

import tarfile
import time
from typing import IO, TYPE_CHECKING, cast

from skipc.compiler.errors import RemoteError
from skipc.compiler.remote.connection import one_line
from skipc.runtime.bundle.contained import check_relative
from skipc.runtime.errors import IntegrityError, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CHUNK_BYTES = 1 << 20
_SHOWN_BYTES = 60
_FILE_MODE = 0o600

# tarfile reads a member's extended headers into memory, whatever size they claim. Room for
# a path of 4096 bytes, for what a tar program adds, and for the blocks read ahead.
_HEADER_BYTES = 1 << 15

_KINDS: dict[bytes, str] = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class StreamEndedError(RemoteError):
    """The stream ended too early: how the command ended says why."""


def write_tar(stream: IO[bytes], files: Mapping[str, Path]) -> None:
    """Writes ``files`` to a stream, by the name each gets there.

    Raises:
        BrokenPipeError: The other side ended; how it ended says why.
        RemoteError: A file cannot be read, or has become shorter.
    """
    # GNU's format: the one that every tar program reads with long names and large files.
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for name, path in files.items():
            info = tarfile.TarInfo(name)
            info.mode = _FILE_MODE
            info.mtime = int(time.time())
            try:
                info.size = path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(info, file)
            except BrokenPipeError:
                raise
            except OSError as cause:
                raise RemoteError(
                    f"{path}: cannot be copied: {cause}. Nothing may change the bundle while"
                    " it is copied; try again."
                ) from cause


def read_tar(
    stream: IO[bytes], folder: str, sizes_bytes: Mapping[str, int], destination: Path
) -> None:
    """Reads exactly the files that were expected, and nothing else.

    Folders are made as the files need them. Data after the archive's end is not looked at.

    Args:
        stream: What ``tar -c`` writes, from whoever.
        folder: Every member must lie under this name.
        sizes_bytes: The files expected, relative to ``folder``, and their sizes.
        destination: An empty folder for the contents of ``folder``.

    Raises:
        StreamEndedError: The stream ended before the last file.
        RemoteError: There is something else in it: no tar archive, another path, a link, a
            device, a file twice, of another size or not expected.
    """
    bounded = _Bounded(stream)
    missing = dict(sizes_bytes)
    seen = set()
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|") as archive:
            while (member := archive.next()) is not None:
                path = _checked_path(member, folder, sizes_bytes)
                if member.name in seen:
                    raise _refused(member, "comes twice")
                seen.add(member.name)
                bounded.allow(_HEADER_BYTES)
                if path is not None:
                    bounded.allow(missing.pop(path))
                    _write(archive, member, destination / path)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError) as cause:
        # tarfile lets more than its own errors out for headers made to break it.
        raise _unreadable(bounded, cause) from cause
    if missing:
        raise _ended(bounded, f"without {next(iter(missing))!r}")


def _checked_path(
    member: tarfile.TarInfo, folder: str, expected: Mapping[str, int]
) -> str | None:
    """Returns the member's path under ``folder``; None for one of its folders."""
    name = member.name
    try:
        check_relative(name, "the device's tar stream")
    except IntegrityError as cause:
        raise RemoteError(f"{sentence(str(cause))} Nothing was taken over.") from cause
    path = name.removeprefix(f"{folder}/")
    if member.isdir():
        if name == folder or any(known.startswith(f"{path}/") for known in expected):
            return None
        raise _refused(member, f"is a folder that no file of {folder!r} lies in")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        kind = _KINDS.get(member.type, "of another kind")
        raise _refused(member, f"is {kind}, not a regular file")
    if path == name or path not in expected:
        raise _refused(member, "is not a file that the device's engines.json lists")
    if member.size != expected[path]:
        raise _refused(member, f"has {member.size} bytes; {expected[path]} are listed")
    return path


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = archive.extractfile(member)
    assert source is not None  # it is a regular file
    left_bytes = member.size
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with source, path.open("xb") as file:
            while left_bytes:
                data = source.read(min(left_bytes, _CHUNK_BYTES))
                if not data:
                    raise EOFError(f"{left_bytes} bytes of {member.name!r} are missing")
                left_bytes -= len(data)
                file.write(data)
    except OSError as cause:
        raise RemoteError(f"{path} cannot be written: {cause}.") from cause


def _refused(member: tarfile.TarInfo, what: str) -> RemoteError:
    return RemoteError(
        f"the device's tar stream: {one_line(member.name[:200].encode())!r} {what}. Nothing"
        " was taken over. Build the engines on the device again; if this stays, do not trust"
        " it."
    )


def _unreadable(stream: _Bounded, cause: Exception) -> RemoteError:
    if stream.ended:
        return _ended(stream, f"in the middle ({cause})")
    return RemoteError(
        f"the device's tar stream is not one ({cause}); it begins with {stream.start()!r}."
        " Usually a start-up file of its shell prints something: let .bashrc and the like"
        " print only where the shell is interactive."
    )


def _ended(stream: _Bounded, how: str) -> RemoteError:
    if not stream.ended:
        return RemoteError(
            f"the device's tar archive ends {how}. Nothing was taken over; build the engines"
            " on the device again."
        )
    return StreamEndedError(
        f"the device's tar stream ended {how}, after {stream.count_bytes} bytes. Nothing was"
        " taken over. Most likely the connection broke or its disk is full; try again."
    )


class _Bounded:
    """A stream of which no more can be read than was allowed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._allowed_bytes = _HEADER_BYTES + 2 * tarfile.RECORDSIZE
        self._start = b""
        self.count_bytes = 0
        self.ended = False

    def allow(self, size_bytes: int) -> None:
        """Lets ``size_bytes`` more be read."""
        self._allowed_bytes += size_bytes

    def start(self) -> str:
        """Returns the beginning of what was read, printable."""
        return one_line(self._start)

    def read(self, size_bytes: int) -> bytes:
        """Returns up to ``size_bytes``; as much as there is before the end."""
        if self.count_bytes >= self._allowed_bytes:
            raise tarfile.ReadError("a header claims more than any path needs")
        data = self._stream.read(size_bytes)
        self.ended = self.ended or len(data) < size_bytes
        self._start = (self._start + data)[:_SHOWN_BYTES]
        self.count_bytes += len(data)
        return data
