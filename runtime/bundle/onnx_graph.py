"""Where an ONNX graph takes its tensors from, read without the onnx package.

ONNX Runtime 1.23 follows any path that a graph gives, later versions only those inside the
graph's folder. A bundle may come from anywhere, so the paths are checked before a library sees
them. Libraries forgive more than they should, each in its own way (a tag of 33 bits counts as
one of 32), so nothing is forgiven here: what no writer of Protocol Buffers writes is refused.
"""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_GRAPH_BYTES = 2**31 - 1
"""What a Protocol Buffers message may have; larger networks keep their weights beside it."""

COPY_AGAIN = "Copy the bundle again."

_MAX_DEPTH = 64
_LOCATION = b"location"
_GRAPH, _INITIALIZER, _TENSOR_NAME, _EXTERNAL_DATA = 7, 5, 8, 13  # fields of onnx.proto
_DIMS, _DATA_TYPE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types

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
"""The messages of onnx.proto on the way to a tensor's place: field number to message."""

_PLAIN: Mapping[str, frozenset[int]] = {
    "model": frozenset({2, 3, 4, 6, 8, 14, 26}),
    "training": frozenset({3, 4}),
    "function": frozenset({1, 4, 5, 6, 8, 9, 10, 12, 13, 14}),
    "graph": frozenset({2, 10, 11, 12, 13, 14, 16}),
    "node": frozenset({1, 2, 3, 4, 6, 7, 8, 9, 10}),
    "attribute": frozenset({1, 4, 7, 8, 9, 13, 14, 15, 21}),
    "sparse": frozenset({3}),
    "tensor": frozenset({1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16}),
    "entry": frozenset({1, 2}),
}
"""Their fields of some length that hold no tensor. One that is in neither may be anything."""


@dataclass(frozen=True, slots=True)
class ExternalTensor:
    """An initializer whose data lies in another file; ``data_type`` is ONNX's number."""

    name: str
    location: str
    offset_bytes: int
    size_bytes: int
    data_type: int
    shape: tuple[int, ...]


def check_locations(path: Path, allowed: str, advice: str = COPY_AGAIN) -> None:
    """Checks that the graph in ``path`` takes tensors from one file only.

    ``allowed`` is that file as the graph must name it, empty for none; ``advice`` is what to
    do otherwise.

    Raises:
        IntegrityError: It takes some from elsewhere, is too large, or no ONNX graph.
    """
    with _mapped(path, advice) as data:
        foreign = sorted(locations(data) - {allowed})
    if foreign:
        raise IntegrityError(
            f"{path}: takes tensors from {foreign[0]!r}, but may only use"
            f" {allowed or 'its own'!r}. The file was altered. {advice}"
        )


def locations(graph: mmap.mmap | bytes) -> set[str]:
    """Returns the files that a serialised ``ModelProto`` names for external data.

    Raises ``ValueError`` where no writer of ONNX writes so, or it nests too deep.
    """
    found: set[str] = set()
    _visit(graph, 0, len(graph), "model", 0, found)
    return found


def external_tensors(path: Path) -> list[ExternalTensor]:
    """Returns the initializers of the graph in ``path`` whose data lies elsewhere.

    Raises:
        IntegrityError: It is too large, or no ONNX graph; or an initializer does not say where
            its data lies or how much it is.
    """
    with _mapped(path, COPY_AGAIN) as data:
        return [
            tensor
            for graph in _spans(data, 0, len(data), _GRAPH)
            for span in _spans(data, *graph, _INITIALIZER)
            if (tensor := _external_tensor(data, *span)) is not None
        ]


@contextmanager
def _mapped(path: Path, advice: str) -> Iterator[mmap.mmap | bytes]:
    """Yields a graph's bytes; a ``ValueError`` of the block says what is wrong with them."""
    try:
        with path.open("rb") as file:
            size_bytes = path.stat().st_size
            if size_bytes > MAX_GRAPH_BYTES:
                raise IntegrityError(
                    f"{path}: {size_bytes} bytes, more than the {MAX_GRAPH_BYTES} bytes that"
                    f" an ONNX file may have. It is not one that skipc wrote. {advice}"
                )
            if not size_bytes:  # cannot be mapped
                yield b""
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except ValueError as cause:
        raise IntegrityError(f"{path}: not an ONNX graph: {cause}. {advice}") from cause
    except OSError as cause:
        raise IntegrityError(f"{path}: cannot be read: {cause.strerror}. {advice}") from cause


def _external_tensor(data: mmap.mmap | bytes, start: int, end: int) -> ExternalTensor | None:
    name, data_type = "", 0
    shape: list[int] = []
    entries: dict[str, str] = {}
    for field, wire, first, last in _fields(data, start, end):
        if field == _DIMS:  # one number, or all of them packed
            while first < last:
                size, first = _varint(data, first, last, 64)
                shape.append(size)
        elif field == _DATA_TYPE and wire == _VARINT:
            data_type, _ = _varint(data, first, last, 32)
        if wire != _BYTES:
            continue
        if field == _TENSOR_NAME:
            name = data[first:last].decode("utf-8", errors="replace")
        elif field == _EXTERNAL_DATA:
            pair = {key: data[a:b].decode("utf-8", "replace")
                    for key, _, a, b in _fields(data, first, last)}  # fmt: skip
            entries[pair.get(1, "")] = pair.get(2, "")
    if not entries:
        return None
    try:
        return ExternalTensor(
            name=name,
            location=entries["location"],
            offset_bytes=int(entries.get("offset", "0")),
            size_bytes=int(entries["length"]),
            data_type=data_type,
            shape=tuple(shape),
        )
    except (KeyError, ValueError) as cause:
        raise ValueError(f"the tensor {name!r} does not say where its data lies") from cause


def _visit(
    data: mmap.mmap | bytes, start: int, end: int, kind: str, depth: int, found: set[str]
) -> None:
    """Adds the locations that a message names, and those of the messages in it."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
    inner, plain = _MESSAGES[kind], _PLAIN[kind]
    keys: set[bytes] = set()
    values: set[bytes] = set()
    for field, wire, first, last in _fields(data, start, end):
        if field in inner and wire != _BYTES:
            raise ValueError(f"field {field} of a {kind} has the wire type {wire}")
        if wire != _BYTES:
            continue
        if kind == "entry":
            # Readers take the last of several, or the last that is not empty.
            (keys if field == 1 else values).add(data[first:last])
        elif data.find(_LOCATION, first, last) < 0:
            continue
        elif field in inner:
            _visit(data, first, last, inner[field], depth + 1, found)
        elif field not in plain:
            raise ValueError(f"field {field} of a {kind}, which may name a file, is unknown")
    if _LOCATION in keys:
        found |= {value.decode("utf-8", errors="replace") for value in values or {b""}}


def _spans(
    data: mmap.mmap | bytes, start: int, end: int, wanted: int
) -> Iterator[tuple[int, int]]:
    for field, wire, first, last in _fields(data, start, end):
        if field == wanted and wire == _BYTES:
            yield first, last


def _fields(
    data: mmap.mmap | bytes, start: int, end: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yields number, wire type, start and end of every field's content."""
    place = start
    while place < end:
        tag, place = _varint(data, place, end, 32)
        field, wire, first = tag >> 3, tag & 7, place
        if not field:
            raise ValueError(f"a field of number 0 before byte {place}")
        if wire == _BYTES:
            size_bytes, first = _varint(data, place, end, 31)
            place = first + size_bytes
        elif wire == _VARINT:
            _, place = _varint(data, place, end, 64)
        elif wire == _FIXED64:
            place += 8
        elif wire == _FIXED32:
            place += 4
        else:
            raise ValueError(f"unknown wire type {wire} at byte {place}")
        if place > end:
            raise ValueError(f"a field ends at byte {place}, after its message ({end})")
        yield field, wire, first, place


def _varint(data: mmap.mmap | bytes, place: int, end: int, bits: int) -> tuple[int, int]:
    """Returns a number of at most ``bits`` bits, in as few bytes as it needs, and its end."""
    value = shift = 0
    while place < end and shift < bits:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> bits:
                raise ValueError(f"a number of more than {bits} bits before byte {place}")
            if not byte and shift:
                raise ValueError(f"a number longer than it needs before byte {place}")
            return value, place
        shift += 7
    raise ValueError(f"a number without end at byte {place}")
