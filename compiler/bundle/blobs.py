"""A file that holds each distinct piece of data once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from skipc.runtime.bundle.manifest import StoredTensor

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

PAGE_BYTES = 4096


class BlobWriter:
    """Appends distinct blobs to a file, found again by the SHA-256 of their bytes.

    A blob of a page or more starts on a page, so that processes and sessions map the same
    pages. Written strictly in order, one blob in memory at a time; used as a context manager.

    Args:
        path: The file to write.
        alignment_bytes: What smaller blobs start at a multiple of.
    """

    def __init__(self, path: Path, alignment_bytes: int = PAGE_BYTES) -> None:
        self.path = path
        self._alignment_bytes = alignment_bytes
        self._file = path.open("xb")
        self._stored: dict[str, StoredTensor] = {}
        self.end_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> StoredTensor:
        """Returns where ``data`` lies, written now unless it is there already."""
        key = hashlib.sha256(data).hexdigest()
        if key not in self._stored:
            aligned = PAGE_BYTES if len(data) >= PAGE_BYTES else self._alignment_bytes
            padding = bytes(-self.end_bytes % aligned)
            self._stored[key] = StoredTensor(key, self.end_bytes + len(padding), len(data))
            self._file.write(padding)
            self._file.write(data)
            self.end_bytes += len(padding) + len(data)
        return self._stored[key]

    def flush(self) -> None:
        """Makes everything written so far visible to readers of the file."""
        self._file.flush()
