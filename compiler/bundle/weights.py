"""Writing the weight store: each distinct tensor once, each on a page of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import onnx_ir as ir

from skipc.compiler.bundle.blobs import BlobWriter

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.bundle.manifest import StoredTensor

INLINE_BELOW_BYTES = 256
"""Smaller tensors stay in the graphs: a page for 40 bytes costs more than repeating them."""


@final
class WeightStoreWriter(BlobWriter):
    """Writes distinct tensors; equal bytes are stored once even where shape or type differ.

    Args:
        path: The file to write; graphs that refer to it must lie in the same folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # Configurations share tensor objects: each is read and hashed once. The tensor is
        # kept so that its id stays its own.
        self._known: dict[int, tuple[ir.TensorProtocol, StoredTensor]] = {}

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        """Every stored tensor, by offset."""
        return tuple(self._stored.values())

    def size_bytes(self, keys: frozenset[str]) -> int:
        """Returns the bytes of the tensors with these hashes, without padding."""
        return sum(self._stored[key].size_bytes for key in keys)

    def add(self, tensor: ir.TensorProtocol) -> StoredTensor:
        """Returns where ``tensor`` lies, writing it first if its bytes are new."""
        if id(tensor) not in self._known:
            self._known[id(tensor)] = tensor, self.write(tensor.tobytes())
        return self._known[id(tensor)][1]

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
                    self.path.name,
                    place.offset_bytes,
                    place.size_bytes,
                    tensor.dtype,
                    shape=ir.Shape(tensor.shape.numpy()),
                    name=value.name or "",
                    base_dir=self.path.parent,
                )
        return frozenset(used)
