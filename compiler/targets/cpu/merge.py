"""The packed store: every tensor and every prepacked blob of all engines, each once.

ONNX Runtime writes one external-data file per optimised graph. Beside the tensors it holds
the weights as the kernels want them, which an initializer names in its ``external_data`` as
``prepacked_<n> = key|offset;length;flag;…[|offset;length;flag;…]``. ``merge_graph`` moves all
of that into one store by content and rewrites every offset.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import onnx

from skipc.compiler.bundle.blobs import BlobWriter
from skipc.compiler.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from skipc.runtime.bundle.manifest import StoredTensor

_LINE_BYTES = 64
_PREPACKED = "prepacked_"
_PLACES = re.compile(r"\d+;\d+;\d+(;\d+;\d+;\d+)*;?", re.ASCII)
_HINT = "Try another onnxruntime version (1.23 and 1.31 are known to work), and report it."


class PackedLayoutError(TargetError):
    """ONNX Runtime wrote external data in a form that this skipc does not know."""


class PackedStore(BlobWriter):
    """Writes the store; small blobs start on a cache line."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _LINE_BYTES)

    @property
    def size_bytes(self) -> int:
        """The file's size so far."""
        return self.end_bytes


def merge_graph(
    graph: Path, data: Path, merged: Path, store: PackedStore
) -> frozenset[StoredTensor]:
    """Moves an optimised graph's external data into ``store``; returns the blobs it refers to.

    Args:
        graph: The optimised graph as ONNX Runtime wrote it.
        data: Its external data; need not exist if the graph refers to none.
        merged: The graph to write, in the store's folder; refers to the store only.
        store: Gets every tensor and prepacked blob that it does not yet have.

    Raises:
        PackedLayoutError: The graph's external data is not as expected.
    """
    model = onnx.load(str(graph), load_external_data=False)
    used: set[StoredTensor] = set()
    with _Source(data) as source:
        for tensor in _tensors(model.graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                used |= _move(tensor, source, store)
    store.flush()
    merged.write_bytes(model.SerializeToString())
    return frozenset(used)


class _Source:
    """One external-data file, read a blob at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # A graph whose tensors are all small comes without one.
        self._file = path.open("rb") if path.exists() else io.BytesIO()

    def __enter__(self) -> _Source:  # noqa: PYI034 - typing.Self is Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        self._file.seek(offset_bytes)
        data = self._file.read(size_bytes)
        if len(data) < size_bytes:
            raise PackedLayoutError(
                f"{self.path.name}: expected {size_bytes} bytes at {offset_bytes}, found"
                f" {len(data)}. {_HINT}"
            )
        return data


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _move(tensor: onnx.TensorProto, source: _Source, store: PackedStore) -> set[StoredTensor]:
    """Copies one tensor and its prepacked blobs, and rewrites where they are."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if entries.get("location") != source.path.name or "length" not in entries:
        raise PackedLayoutError(
            f"tensor {tensor.name!r}: expected external data of known length in"
            f" {source.path.name!r}, found {entries}. {_HINT}"
        )
    blob = store.write(source.read(int(entries.get("offset", "0")), int(entries["length"])))
    used = {blob}
    rewritten = {
        "location": store.path.name,
        "offset": str(blob.offset_bytes),
        "length": str(blob.size_bytes),
    }
    for key, value in entries.items():
        if key in rewritten:
            continue
        if not key.startswith(_PREPACKED):
            raise PackedLayoutError(f"tensor {tensor.name!r}: unknown entry {key!r}. {_HINT}")
        rewritten[key], blobs = _moved_prepacked(tensor.name, value, source, store)
        used |= blobs
    del tensor.external_data[:]
    for key, value in rewritten.items():
        tensor.external_data.add(key=key, value=value)
    return used


def _moved_prepacked(
    name: str, value: str, source: _Source, store: PackedStore
) -> tuple[str, set[StoredTensor]]:
    """Returns a ``key|offset;length;flag;…|offset;length;flag;…`` entry for the store.

    Kernels that pack several operands, as a GRU's, have a group for each.
    """
    parts = value.split("|")
    first = len(parts)
    while first > 1 and _PLACES.fullmatch(parts[first - 1]):
        first -= 1
    key, groups = "|".join(parts[:first]), parts[first:]
    if not key or not groups:
        raise PackedLayoutError(
            f"tensor {name!r}: cannot read the prepacked entry {value!r}. {_HINT}"
        )
    used: set[StoredTensor] = set()
    moved = [key]
    for group in groups:
        fields = group.rstrip(";").split(";")
        places: list[str] = []
        for offset, length, flag in zip(fields[0::3], fields[1::3], fields[2::3], strict=True):
            at = "0"  # of nothing: its old place may lie behind the store's end
            if int(length):
                blob = store.write(source.read(int(offset), int(length)))
                used.add(blob)
                at = str(blob.offset_bytes)
            places += [at, length, flag]
        moved.append(";".join(places))
    return "|".join(moved), used
