"""The inputs of a network that comes as a graph: named by its file, open sizes settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import CheckpointError
from skipc.compiler.extras import require
from skipc.compiler.read.inputs import DTYPES, check_inputs, input_text
from skipc.runtime.bundle.tensors import BATCH, Dimension, Size, TensorSpec
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch.export import ExportedProgram


MAX_PROTOBUF_BYTES = 2**31 - 1
"""Protobuf's own bound; larger networks keep their weights in a file beside the graph."""


_OPEN, _UNKNOWN = "?", "?..."
"""A dimension that a graph's file leaves open, and a shape that it does not say at all."""


def program_inputs(path: Path, program: ExportedProgram) -> tuple[TensorSpec, ...]:
    """Returns the program's inputs in the order of its graph.

    Raises:
        CheckpointError: One is no tensor.
    """
    return tuple(
        TensorSpec(
            name,
            str(value.dtype).removeprefix("torch."),
            tuple(size if isinstance(size, int) else _OPEN for size in value.shape),
        )
        for name, value in _tensors_of(path, program).items()
    )


def _tensors_of(path: Path, program: ExportedProgram) -> dict[str, Any]:
    import torch

    wanted = set(program.graph_signature.user_inputs)
    found = {}
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in wanted:
            continue
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path}: the input {node.name!r} is {type(value).__name__}, expected a"
                " tensor. Export the network with tensors alone."
            )
        found[node.name] = value
    return found


def check_program_ranges(
    path: Path,
    program: ExportedProgram,
    inputs: Sequence[TensorSpec],
    dimensions: Sequence[Dimension],
) -> None:
    """Raises ``CheckpointError`` where a program was exported for fewer sizes than asked."""
    constraints: Mapping[Any, Any] = program.range_constraints
    asked, tensors = {each.name: each for each in dimensions}, _tensors_of(path, program)
    for spec in inputs:
        for axis, (size, own) in enumerate(
            zip(spec.shape, tensors[spec.name].shape, strict=True)
        ):
            allowed = None if isinstance(own, int) else constraints.get(own.node.expr)
            if allowed is None or not isinstance(size, str):
                continue
            low, high, each = allowed.lower, allowed.upper, asked[size]
            if each.minimum < low or each.maximum > high:
                option = "--batch " if size == BATCH else f"--dim {size}="
                raise CheckpointError(
                    f"{path}: {option}{each.range}, but the program was exported for {low} to"
                    f" {high} in dimension {axis} of {spec.name!r}. Give a range inside that,"
                    f" or export it again with torch.export.Dim({size!r}, min, max)."
                )


def onnx_inputs(path: Path) -> tuple[TensorSpec, ...]:
    """Returns the ONNX model's inputs that are not weights.

    Raises:
        CheckpointError: The file is not an ONNX model, or an input is not a plain tensor.
    """
    graph = read_onnx(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return tuple(_onnx_input(path, each) for each in graph.input if each.name not in weights)


def read_onnx(path: Path) -> Any:
    """Returns the ``ModelProto`` in an ONNX file; reads no external data."""
    onnx: Any = require("onnx", "finish")
    size_bytes = path.stat().st_size
    if size_bytes > MAX_PROTOBUF_BYTES:
        raise CheckpointError(
            f"{path}: {size_bytes} bytes, more than the {MAX_PROTOBUF_BYTES} bytes that an"
            " ONNX file may have. Save it with external data: onnx.save(model, path,"
            " save_as_external_data=True)."
        )
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as cause:
        raise CheckpointError(
            f"{path}: damaged, or no ONNX model: {type(cause).__name__}: {cause}."
            " Export or download it again."
        ) from cause
    if not model.graph.node:
        raise CheckpointError(
            f"{path}: truncated, or no ONNX model: its graph has no nodes."
            " Export or download it again."
        )
    return model


def _onnx_input(path: Path, value: Any) -> TensorSpec:
    import onnx_ir as ir

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise CheckpointError(
            f"{path}: the input {value.name!r} is {kind}, expected a tensor. Export the"
            " network with tensors alone."
        )
    try:
        found = ir.from_proto(value)
        dtype = found.dtype.numpy().name
    except (ValueError, TypeError, ir.serde.SerdeError) as cause:
        raise CheckpointError(
            f"{path}: the input {value.name!r} has the unknown type"
            f" {value.type.tensor_type.elem_type}."
        ) from cause
    if found.shape is None:
        return TensorSpec(value.name, dtype, (_UNKNOWN,))
    return TensorSpec(value.name, dtype, tuple(_size(dim) for dim in found.shape))


def _size(dim: Any) -> Size:
    """Returns a dimension's size, the name that the file gives an open one, or ``?``."""
    if isinstance(dim, int):
        return dim if dim > 0 else _OPEN
    return str(dim.value) if dim.value is not None else _OPEN


def settle_inputs(
    found: Sequence[TensorSpec],
    given: Sequence[TensorSpec],
    dimensions: Sequence[Dimension],
    where: str,
) -> tuple[TensorSpec, ...]:
    """Returns the graph's inputs, every size either fixed or the name of a free dimension.

    An open size is fixed or named by what ``--input`` gives. Without it, one that the file
    calls by the name of a ``--dim`` is that one, and an open first one is the batch where
    ``--batch`` is given.

    Raises:
        CheckpointError: What is given contradicts the file, or a size stays open.
    """
    names = [spec.name for spec in found]
    if not found:
        raise CheckpointError(f"{where}: the graph has no inputs. Export the network again.")
    if len(given) > len(found):
        raise CheckpointError(
            f"{where}: {len(given)} inputs are given, but the graph has {len(found)}:"
            f" {', '.join(names)}. Leave some --input out."
        )
    asked = {spec.name or name: spec for spec, name in zip(given, names, strict=False)}
    for name in asked:
        if name not in names:
            raise CheckpointError(
                f"{where}: the graph has no input {name!r}. {choices_text(name, names)}"
            )
    settled = tuple(_settle(spec, asked.get(spec.name), dimensions, where) for spec in found)
    check_inputs(settled, dimensions)
    return settled


def _settle(
    found: TensorSpec,
    asked: TensorSpec | None,
    dimensions: Sequence[Dimension],
    where: str,
) -> TensorSpec:
    if found.dtype not in DTYPES:
        raise CheckpointError(
            f"{where}: the input {found.name!r} is of type {found.dtype!r}, which the runtime"
            f" cannot be given. {choices_text(found.dtype, DTYPES)}"
        )
    if asked is None:
        return TensorSpec(found.name, found.dtype, _own_shape(found, dimensions, where))
    fits = _UNKNOWN in found.shape or (
        len(asked.shape) == len(found.shape)
        and all(
            isinstance(size, str) or size == wanted
            for size, wanted in zip(found.shape, asked.shape, strict=False)
        )
    )
    if asked.dtype != found.dtype or not fits:
        raise CheckpointError(
            f"{where}: --input {input_text(asked)} does not fit the graph's input"
            f" {_text(found)}. Give what is '?' there, or leave --input out."
        )
    return TensorSpec(found.name, found.dtype, asked.shape)


def _own_shape(
    found: TensorSpec, dimensions: Sequence[Dimension], where: str
) -> tuple[Size, ...]:
    if _UNKNOWN in found.shape:
        raise CheckpointError(
            f"{where}: the shape of the graph's input {found.name!r} is not known. Give it:"
            f" --input {found.name}=SHAPE:{found.dtype}"
        )
    shape: list[Size] = []
    free = [each.name for each in dimensions]
    for index, size in enumerate(found.shape):
        if isinstance(size, int) or size in free:
            shape.append(size)
        elif index == 0 and BATCH in free:
            shape.append(BATCH)
        else:
            kind = "" if found.dtype == "float32" else f":{found.dtype}"
            sizes = ["1" if isinstance(n, str) else str(n) for n in found.shape]
            names = [
                f"D{i}" if isinstance(n, str) else str(n) for i, n in enumerate(found.shape)
            ]
            names[0] = BATCH if isinstance(found.shape[0], str) else names[0]
            way = "--batch 1:4:16" if index == 0 else f"--dim D{index}=16:128:512"
            raise CheckpointError(
                f"{where}: dimension {index} of the graph's input {_text(found)} is open."
                f" Either give its sizes, e.g. --input {found.name}={'x'.join(names)}{kind}"
                f" {way}, or fix it: --input {found.name}={'x'.join(sizes)}{kind}"
            )
    return tuple(shape)


def _text(found: TensorSpec) -> str:
    known = _UNKNOWN in found.shape
    sizes = (s if isinstance(s, int) or known else _OPEN for s in found.shape)
    return f"{found.name}={'x'.join(map(str, sizes))}:{found.dtype}"
