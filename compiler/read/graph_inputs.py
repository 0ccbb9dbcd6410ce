"""The inputs of a network that comes as a graph: named by its file, open sizes settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import CheckpointError
from skipc.compiler.extras import require
from skipc.compiler.read.inputs import BATCH, DTYPES, check_inputs, input_text
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch.export import ExportedProgram

    from skipc.runtime.bundle.tensors import BatchRange


MAX_PROTOBUF_BYTES = 2**31 - 1
"""Protobuf's own bound; larger networks keep their weights in a file beside the graph."""


_OPEN, _UNKNOWN = "?", "?..."
"""A dimension that a graph's file leaves open, and a shape that it does not say at all."""


def program_inputs(
    path: Path, program: ExportedProgram, batch: BatchRange | None
) -> tuple[TensorSpec, ...]:
    """Returns the program's inputs in the order of its graph.

    Raises:
        CheckpointError: One is no tensor, or the program is for another range of batch sizes.
    """
    import torch

    wanted = set(program.graph_signature.user_inputs)
    inputs = []
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in wanted:
            continue
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path}: the input {node.name!r} is {type(value).__name__}, expected a"
                " tensor. Export the network with tensors alone."
            )
        shape: tuple[object, ...] = tuple(value.shape)
        sizes = tuple(size if isinstance(size, int) else _OPEN for size in shape)
        if batch is not None and sizes[:1] == (_OPEN,):
            _check_range(path, node.name, program, shape[0], batch)
        inputs.append(TensorSpec(node.name, str(value.dtype).removeprefix("torch."), sizes))
    return tuple(inputs)


def _check_range(
    path: Path, name: str, program: ExportedProgram, size: Any, batch: BatchRange
) -> None:
    constraints: Mapping[Any, Any] = program.range_constraints
    allowed = constraints.get(size.node.expr)
    if allowed is None:
        return
    low, high = allowed.lower, allowed.upper
    if batch.minimum < low or batch.maximum > high:
        raise CheckpointError(
            f"{path}: --batch {batch.minimum}:{batch.typical}:{batch.maximum}, but the program"
            f" was exported for {low} to {high} in the first dimension of {name!r}. Give a"
            " range inside that, or export it again with torch.export.Dim('N', min, max)."
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
    sizes = (dim if isinstance(dim, int) and dim > 0 else _OPEN for dim in found.shape)
    return TensorSpec(value.name, dtype, tuple(sizes))


def settle_inputs(
    found: Sequence[TensorSpec],
    given: Sequence[TensorSpec],
    batch: BatchRange | None,
    where: str,
) -> tuple[TensorSpec, ...]:
    """Returns the graph's inputs, every size either fixed or the dynamic batch.

    An open size is fixed by what ``--input`` gives; an open first one is the dynamic batch
    where ``--batch`` is given.

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
    settled = tuple(_settle(spec, asked.get(spec.name), batch, where) for spec in found)
    check_inputs(settled, batch)
    return settled


def _settle(
    found: TensorSpec, asked: TensorSpec | None, batch: BatchRange | None, where: str
) -> TensorSpec:
    if found.dtype not in DTYPES:
        raise CheckpointError(
            f"{where}: the input {found.name!r} is of type {found.dtype!r}, which the runtime"
            f" cannot be given. {choices_text(found.dtype, DTYPES)}"
        )
    if asked is None:
        return TensorSpec(found.name, found.dtype, _own_shape(found, batch, where))
    fits = _UNKNOWN in found.shape or (
        len(asked.shape) == len(found.shape)
        and all(
            size in (_OPEN, wanted)
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
    found: TensorSpec, batch: BatchRange | None, where: str
) -> tuple[Dimension, ...]:
    if _UNKNOWN in found.shape:
        raise CheckpointError(
            f"{where}: the shape of the graph's input {found.name!r} is not known. Give it:"
            f" --input {found.name}=SHAPE:{found.dtype}"
        )
    shape: list[Dimension] = []
    for index, size in enumerate(found.shape):
        if size != _OPEN:
            shape.append(size)
        elif index == 0 and batch is not None:
            shape.append(BATCH)
        else:
            sizes = ["1" if n == _OPEN else str(n) for n in found.shape]
            fixed = f"--input {found.name}={'x'.join(sizes)}"
            fixed += "" if found.dtype == "float32" else f":{found.dtype}"
            ways = f" or add --batch MIN:TYPICAL:MAX, e.g. --batch 1:4:16, or fix it: {fixed}"
            raise CheckpointError(
                f"{where}: dimension {index} of the graph's input {_text(found)} is open."
                + (f" Either{ways.removeprefix(' or')}" if index == 0 else f" Fix it: {fixed}")
            )
    return tuple(shape)


def _text(found: TensorSpec) -> str:
    return f"{found.name}={'x'.join(map(str, found.shape))}:{found.dtype}"
