"""Files over a stream: there as tar; back as their bytes alone, which may be hostile."""

from __future__ import annotations

import tarfile
import time
from typing import IO, TYPE_CHECKING

from skipc.compiler.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CHUNK_BYTES = 1 << 20
_FILE_MODE = 0o600


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


def read_files(stream: IO[bytes], sizes_bytes: Mapping[str, int], destination: Path) -> None:
    """Reads files that follow each other in a stream, and nothing else.

    Names and sizes are known from elsewhere: whatever comes becomes these files.

    Args:
        stream: What ``cat`` writes, from whoever.
        sizes_bytes: The files in their order, relative to ``destination``, and their sizes.
        destination: The folder to write to; folders in it are made as the files need them.

    Raises:
        StreamEndedError: The stream ended before the last file did.
        RemoteError: There is more in it.
        OSError: A file cannot be written, or is there.
    """
    for name, size_bytes in sizes_bytes.items():
        path = destination / name
        path.parent.mkdir(parents=True, exist_ok=True)
        left_bytes = size_bytes
        with path.open("xb") as file:
            while data := stream.read(min(left_bytes, _CHUNK_BYTES)):
                left_bytes -= len(data)
                file.write(data)
        if left_bytes:
            raise StreamEndedError(
                f"what the device sends ended in {name!r}, {left_bytes} bytes too early."
                " Nothing was taken over. Most likely the connection broke or its disk is"
                " full; try again."
            )
    if stream.read(1):
        raise RemoteError(
            "the device sends more bytes than its engines.json lists. Nothing was taken over."
            " Build the engines on the device again; if this stays, do not trust it."
        )
