"""Writing the weight store: each distinct tensor once, each on a page of its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO, final

import onnx_ir as ir

from skipc.runtime.bundle.manifest import StoredTensor

if TYPE_CHECKING:
    from pathlib import Path

PAGE_BYTES = 4096

INLINE_BELOW_BYTES = 256
"""Smaller tensors stay in the graphs: a page for 40 bytes costs more than repeating them."""


@final
class WeightStoreWriter:
    """Appends distinct tensors to a file, found again by the SHA-256 of their bytes.

    Equal bytes are stored once even where shape or type differ. Used as a context manager;
    the file is complete when the block ends. Graphs that refer to it lie in the same folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stored: dict[str, StoredTensor] = {}
        # Configurations share tensor objects: each is read and hashed once. The tensor is
        # kept so that its id stays its own.
        self._known: dict[int, tuple[ir.TensorProtocol, str]] = {}
        self._file: BinaryIO | None = None

    def __enter__(self) -> WeightStoreWriter:
        self._file = self._path.open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        """Every stored tensor, by offset."""
        return tuple(self._stored.values())

    def size_bytes(self, keys: frozenset[str]) -> int:
        """Returns the bytes of the tensors with these hashes, without padding."""
        return sum(self._stored[key].size_bytes for key in keys)

    def flush(self) -> None:
        """Makes everything stored so far visible to readers of the file."""
        assert self._file is not None
        self._file.flush()

    def add(self, tensor: ir.TensorProtocol) -> StoredTensor:
        """Returns where ``tensor`` lies, writing it first if its bytes are new."""
        known = self._known.get(id(tensor))
        if known is not None:
            return self._stored[known[1]]
        data = tensor.tobytes()
        key = hashlib.sha256(data).hexdigest()
        self._known[id(tensor)] = (tensor, key)
        if key not in self._stored:
            assert self._file is not None
            padding = -self._file.tell() % PAGE_BYTES
            self._file.write(b"\0" * padding)
            self._stored[key] = StoredTensor(key, self._file.tell(), len(data))
            self._file.write(data)
        return self._stored[key]

    def store(self, model: ir.Model) -> frozenset[str]:
        """Moves the initializers of ``model`` into the store; returns their hashes.

        The model refers to the store afterwards; the tensors themselves stay unchanged.
        """
        used = set()
        for graph in model.graphs():
            for value in graph.initializers.values():
                tensor = value.const_value
                if (
                    tensor is None
                    or tensor.nbytes < INLINE_BELOW_BYTES
                    or tensor.dtype == ir.DataType.STRING
                ):
                    continue
                place = self.add(tensor)
                used.add(place.sha256)
                value.const_value = ir.ExternalTensor(
                    self._path.name,
                    place.offset_bytes,
                    place.size_bytes,
                    tensor.dtype,
                    shape=ir.Shape(tensor.shape.numpy()),
                    name=value.name or "",
                    base_dir=self._path.parent,
                )
        return frozenset(used)
