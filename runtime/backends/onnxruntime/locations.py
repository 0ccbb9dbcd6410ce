"""Where an ONNX graph takes its tensors from, read without the onnx package.

ONNX Runtime 1.23 follows any path that a graph gives, later versions only those inside the
graph's folder. A bundle may come from anywhere, so the paths are checked before it sees them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_DEPTH = 64
_LOCATION = b"location"
_GRAPH, _INITIALIZER, _TENSOR_NAME, _EXTERNAL_DATA = 7, 5, 8, 13  # fields of onnx.proto

# The messages of onnx.proto on the way to a tensor: field number to message.
_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        10: "tensor",
        22: "sparse",
        23: "sparse",
        6: "graph",
        11: "graph",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}


@dataclass(frozen=True, slots=True)
class ExternalTensor:
    """An initializer whose data lies in another file."""

    name: str
    location: str
    offset_bytes: int
    size_bytes: int


def external_tensors(graph: bytes) -> list[ExternalTensor]:
    """Returns the initializers of a serialised ``ModelProto`` whose data lies elsewhere.

    Raises:
        ValueError: The bytes are not a Protocol Buffers message, or an initializer does not
            say where its data lies or how much it is.
    """
    found = []
    for model_field, *graph_span in _fields(graph, 0, len(graph)):
        if model_field != _GRAPH:
            continue
        for graph_field, *tensor_span in _fields(graph, *graph_span):
            if graph_field == _INITIALIZER:
                tensor = _external_tensor(graph, *tensor_span)
                if tensor is not None:
                    found.append(tensor)
    return found


def _external_tensor(data: bytes, start: int, end: int) -> ExternalTensor | None:
    name = ""
    entries: dict[str, str] = {}
    for field, first, last in _fields(data, start, end):
        if field == _TENSOR_NAME:
            name = data[first:last].decode("utf-8", errors="replace")
        elif field == _EXTERNAL_DATA:
            pair = {key: data[a:b].decode("utf-8", "replace")
                    for key, a, b in _fields(data, first, last)}  # fmt: skip
            entries[pair.get(1, "")] = pair.get(2, "")
    if not entries:
        return None
    try:
        return ExternalTensor(
            name, entries["location"], int(entries.get("offset", "0")), int(entries["length"])
        )
    except (KeyError, ValueError) as cause:
        raise ValueError(f"the tensor {name!r} does not say where its data lies") from cause


def locations(graph: bytes) -> set[str]:
    """Returns the files that a serialised ``ModelProto`` names for external data.

    Raises:
        ValueError: The bytes are not a Protocol Buffers message, or nest too deep.
    """
    found: set[str] = set()
    _visit(graph, 0, len(graph), "model", 0, found)
    return found


def _visit(data: bytes, start: int, end: int, kind: str, depth: int, found: set[str]) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
    inner = _MESSAGES[kind]
    key = value = b""
    for field, first, last in _fields(data, start, end):
        if kind == "entry":
            # As in any Protocol Buffers reader, the last one given counts.
            if field == 1:
                key = data[first:last]
            elif field == 2:
                value = data[first:last]
        elif field in inner and data.find(_LOCATION, first, last) >= 0:
            _visit(data, first, last, inner[field], depth + 1, found)
    if key == _LOCATION:
        found.add(value.decode("utf-8", errors="replace"))


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields number, start and end of every length-delimited field."""
    place = start
    while place < end:
        tag, place = _varint(data, place, end)
        wire = tag & 7
        if wire == 0:
            _, place = _varint(data, place, end)
        elif wire == 1:
            place += 8
        elif wire == 5:
            place += 4
        elif wire == 2:
            size_bytes, place = _varint(data, place, end)
            if place + size_bytes <= end:
                yield tag >> 3, place, place + size_bytes
            place += size_bytes
        else:
            raise ValueError(f"unknown wire type {wire} at byte {place}")
        if place > end:
            raise ValueError(f"a field ends at byte {place}, after its message ({end})")


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError(f"a number without end at byte {place}")
