"""Networks that come as a graph: a ``torch.export`` program or an ONNX model."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import CheckpointError
from skipc.compiler.extras import require
from skipc.compiler.read.graph_inputs import GraphInput
from skipc.compiler.read.pt2_guard import check_program_archive
from skipc.runtime.errors import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.export import ExportedProgram

    from skipc.runtime.bundle.tensors import BatchRange

MAX_PROTOBUF_BYTES = 2**31 - 1
"""Protobuf's own bound; larger networks keep their weights in a file beside the graph."""


def program_from_file(path: Path, content: bytes | None = None) -> ExportedProgram:
    """Returns the program in a ``.pt2`` archive, after checking that it runs no code.

    Args:
        path: The archive.
        content: What it holds, where that was read already.

    Raises:
        CheckpointError: The archive could run code, is damaged, or of another torch version.
    """
    import torch

    check_program_archive(path, content)
    _import_output_types(path, content)
    # It logs a traceback before it raises, which says nothing more to the user.
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        return torch.export.load(path if content is None else io.BytesIO(content))
    # The deserializer raises whatever its asserts and look-ups raise.
    except Exception as cause:
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise CheckpointError(
            f"{path}: torch {torch.__version__} cannot load this program:"
            f" {type(cause).__name__}: {sentence(reason)} Export it again with this version."
        ) from cause
    finally:
        logger.setLevel(level)


def program_inputs(
    path: Path, program: ExportedProgram, batch: BatchRange | None
) -> tuple[GraphInput, ...]:
    """Returns the program's inputs in the order of its graph.

    Raises:
        CheckpointError: An input is not a tensor, or the program was exported for another
            range of batch sizes.
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
        sizes = tuple(size if isinstance(size, int) else None for size in shape)
        if batch is not None and sizes and sizes[0] is None:
            _check_range(path, node.name, program, shape[0], batch)
        inputs.append(GraphInput(node.name, str(value.dtype).removeprefix("torch."), sizes))
    return tuple(inputs)


def onnx_inputs(path: Path) -> tuple[GraphInput, ...]:
    """Returns the ONNX model's inputs that are not weights; reads no external data.

    Raises:
        CheckpointError: The file is not an ONNX model, or an input is not a plain tensor.
    """
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
    weights = {tensor.name for tensor in model.graph.initializer}
    return tuple(
        _onnx_input(path, onnx, value)
        for value in model.graph.input
        if value.name not in weights
    )


def _onnx_input(path: Path, onnx: Any, value: Any) -> GraphInput:
    tensor = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type":
        raise CheckpointError(
            f"{path}: the input {value.name!r} is {value.type.WhichOneof('value')}, expected a"
            " tensor. Export the network with tensors alone."
        )
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except (KeyError, ValueError, TypeError) as cause:
        raise CheckpointError(
            f"{path}: the input {value.name!r} has the unknown type {tensor.elem_type}."
        ) from cause
    if not tensor.HasField("shape"):
        return GraphInput(value.name, dtype, None)
    sizes = tuple(
        dim.dim_value if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0 else None
        for dim in tensor.shape.dim
    )
    return GraphInput(value.name, dtype, sizes)


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


def _import_output_types(path: Path, content: bytes | None) -> None:
    """Imports transformers where the program returns one of its output classes.

    The program refers to such a class by name and PyTorch must know it before. Only this
    module of this library is imported, whatever the name.
    """
    import torch

    reader: Any = torch._C.PyTorchFileReader(
        str(path) if content is None else io.BytesIO(content)
    )
    if b"transformers.modeling_outputs." in bytes(reader.get_record("models/model.json")):
        require("transformers.modeling_outputs", "dev")
