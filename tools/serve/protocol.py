"""The KServe v2 protocol over HTTP: JSON, and its binary tensor extension.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from skipc.runtime.bundle.constraints import OneOf, Positive, Text
from skipc.runtime.bundle.records import parse_json, read
from skipc.runtime.errors import choices_text
from skipc.tools.serve.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.runtime.bundle.tensors import TensorSpec
    from skipc.tools.serve.requests import Answered, Arrays

HEADER_LENGTH = "inference-header-content-length"
DATATYPES = {
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_JSON_BYTES_PER_VALUE = 32
_ENVELOPE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class InputParameters:
    """How an input's data is sent: in bytes behind the JSON, or in it."""

    binary_data_size: int | None = None


@dataclass(frozen=True, slots=True)
class InputTensor:
    """An input of a request."""

    name: str
    shape: tuple[int, ...]
    datatype: Annotated[str, OneOf(tuple(DATATYPES))]
    parameters: InputParameters = InputParameters()
    data: object = None


@dataclass(frozen=True, slots=True)
class OutputParameters:
    """How an output is wanted; None for as the request says."""

    binary_data: bool | None = None


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that a request asks for."""

    name: str
    parameters: OutputParameters = OutputParameters()


@dataclass(frozen=True, slots=True)
class RequestParameters:
    """What a request says of itself.

    Attributes:
        binary_data_output: Whether outputs are wanted in bytes.
        latency_ms: What it is granted, instead of what the server grants all.
    """

    binary_data_output: bool = False
    latency_ms: Positive | None = None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request for inference, as its JSON has it."""

    inputs: tuple[InputTensor, ...]
    outputs: tuple[WantedOutput, ...] = ()
    id: Text = ""
    parameters: RequestParameters = RequestParameters()


@dataclass(frozen=True, slots=True)
class Message:
    """A body, and how long its JSON is where bytes follow it."""

    body: bytes
    json_bytes: int | None = None


def most_bytes(inputs: Sequence[TensorSpec], most: Mapping[str, int]) -> int:
    """Returns what a request may have, at the largest sizes of the free dimensions."""
    values = sum(math.prod(spec.shape_at(most)) for spec in inputs)
    return _ENVELOPE_BYTES + _JSON_BYTES_PER_VALUE * values


def decoded(message: Message, inputs: Sequence[TensorSpec]) -> tuple[InferRequest, Arrays]:
    """Returns a request and its arrays, of the network's types and the shapes that it says.

    Raises:
        RequestError: It is none, or not for these inputs.
    """
    length = len(message.body) if message.json_bytes is None else message.json_bytes
    if length > len(message.body):
        raise RequestError(
            f"{HEADER_LENGTH}: {length}, but the request has {len(message.body)} bytes."
        )
    document = parse_json(message.body[:length], "the request", RequestError)
    request = read(InferRequest, document, "the request", RequestError)
    specs, offset = {spec.name: spec for spec in inputs}, length
    arrays: Arrays = {}
    for given in request.inputs:
        if given.name not in specs:
            known = choices_text(given.name, specs)
            raise RequestError(f"the network has no input {given.name!r}. {known}")
        if given.name in arrays:
            raise RequestError(f"the input {given.name!r} is given twice.")
        wanted = specs[given.name].dtype
        if DATATYPES[given.datatype] != wanted:
            raise RequestError(
                f"the input {given.name!r} is {given.datatype}, expected {_NAMES[wanted]}."
                " Nothing is converted silently."
            )
        size = given.parameters.binary_data_size
        if size is None:
            arrays[given.name] = _from_json(given, np.dtype(wanted))
        else:
            arrays[given.name] = _from_bytes(given, np.dtype(wanted), message.body, offset)
            offset += size
    if offset != len(message.body):
        raise RequestError(
            f"the request has {len(message.body)} bytes, but its JSON and inputs take"
            f" {offset}. Say in {HEADER_LENGTH} where the JSON ends, and in each input's"
            " parameter binary_data_size how long it is."
        )
    return request, arrays


def encoded(
    model: str, request: InferRequest, answered: Answered, outputs: Sequence[TensorSpec]
) -> Message:
    """Returns the response.

    Raises:
        RequestError: It asks for outputs that the network does not have, or an output holds
            NaN or infinity and is wanted in JSON.
    """
    names = [spec.name for spec in outputs]
    wanted = request.outputs or tuple(WantedOutput(name) for name in names)
    described, data = [], []
    for each in wanted:
        array = np.ascontiguousarray(answered.outputs[each.name])
        tensor: dict[str, object] = {
            "name": each.name,
            "datatype": _NAMES[array.dtype.name],
            "shape": array.shape,
        }
        binary = each.parameters.binary_data
        if request.parameters.binary_data_output if binary is None else binary:
            data.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            tensor["parameters"] = {"binary_data_size": array.nbytes}
        else:
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise RequestError(
                    f"the output {each.name!r} holds NaN or infinity, which JSON does not"
                    " have. Ask for it in bytes (binary_data).",
                    500,
                )
            tensor["data"] = array.ravel().tolist()
        described.append(tensor)
    document: dict[str, object] = {"model_name": model, "model_version": VERSION}
    if request.id:
        document["id"] = request.id
    document["parameters"] = {
        "configuration": answered.configuration,
        "latency_ms": round(answered.latency_ms, 3),
        "in_time": answered.in_time,
        "batch_rows": answered.rows,
    }
    document["outputs"] = described
    head = json.dumps(document, separators=(",", ":")).encode()
    return Message(b"".join([head, *data]), len(head) if data else None)


VERSION = "1"
"""Of the model: a bundle has no other."""


def check_outputs(request: InferRequest, outputs: Sequence[TensorSpec]) -> None:
    """Raises ``RequestError`` where a request asks for what the network does not give."""
    names = [spec.name for spec in outputs]
    for each in request.outputs:
        if each.name not in names:
            known = choices_text(each.name, names)
            raise RequestError(f"the network has no output {each.name!r}. {known}")


def described(specs: Sequence[TensorSpec]) -> list[dict[str, object]]:
    """Returns tensors as the metadata has them; a free dimension is -1."""
    return [
        {
            "name": spec.name,
            "datatype": _NAMES[spec.dtype],
            "shape": [size if isinstance(size, int) else -1 for size in spec.shape],
        }
        for spec in specs
    ]


def _from_bytes(
    given: InputTensor, dtype: np.dtype[Any], body: bytes, offset: int
) -> NDArray[Any]:
    size, count = given.parameters.binary_data_size, math.prod(given.shape)
    if given.data is not None:
        raise RequestError(f"the input {given.name!r} has both data and binary_data_size.")
    if size != count * dtype.itemsize or offset + size > len(body):
        raise RequestError(
            f"the input {given.name!r} has {size} bytes, of which"
            f" {max(min(len(body) - offset, size or 0), 0)} were sent; its shape"
            f" {list(given.shape)} needs {count * dtype.itemsize}."
        )
    if dtype.kind == "b" and max(body[offset : offset + size], default=0) > 1:
        raise RequestError(f"the input {given.name!r} is BOOL, but a byte is neither 0 nor 1.")
    array = np.frombuffer(body, dtype.newbyteorder("<"), count, offset)
    return np.require(array.astype(dtype, copy=False), requirements="A").reshape(given.shape)


_KINDS = {"b": ("b", "true and false"), "f": ("iuf", "numbers")}
_WHOLE = ("iu", "whole numbers")


def _from_json(given: InputTensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    name, count = given.name, math.prod(given.shape)
    if not isinstance(given.data, list):
        raise RequestError(
            f"the input {name!r} has no data: expected a list, or the parameter"
            " binary_data_size and bytes behind the JSON."
        )
    kinds, expected = _KINDS.get(dtype.kind, _WHOLE)
    try:
        array = np.asarray(given.data)
        if array.dtype.kind == "f" and dtype == np.uint64:  # of such as 0 and 2**63
            array = np.asarray(given.data, np.object_)
            whole = all(type(value) is int and value >> 64 == 0 for value in array.flat)
            array = array.astype(np.uint64) if whole else array
    except ValueError:  # lists of different lengths
        array = np.array([None])
    if array.size and array.dtype.kind not in kinds:
        raise RequestError(f"the input {name!r}: its data are not all {expected}.")
    if array.size != count:
        raise RequestError(
            f"the input {name!r} has {array.size} values; its shape {list(given.shape)} needs"
            f" {count}."
        )
    with np.errstate(over="ignore"):
        made = array.astype(dtype)
    fits = np.isfinite(made) | ~np.isfinite(array) if dtype.kind == "f" else made == array
    if not fits.all():
        raise RequestError(f"the input {name!r} has a value beyond {_NAMES[dtype.name]}.")
    return made.reshape(given.shape)
