"""A bundle's graphs, checked before a library follows what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.extras import require
from skipc.runtime.backends.onnxruntime.locations import locations
from skipc.runtime.errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import GraphEntry


def checked_graph(bundle: Bundle, graph: GraphEntry) -> Path:
    """Returns a graph's file, which takes tensors from the weight store only.

    Raises:
        IntegrityError: The file is damaged or reads another file.
    """
    file = bundle.file(graph.file)
    try:
        foreign = sorted(locations(file.read_bytes()) - {bundle.manifest.weights_file})
    except ValueError as cause:
        raise IntegrityError(
            f"{file}: not an ONNX graph: {cause}. Copy the bundle again."
        ) from cause
    if foreign:
        raise IntegrityError(
            f"{file}: takes tensors from {foreign[0]!r}, but may only use"
            f" {bundle.manifest.weights_file!r}. The file was altered; copy the bundle again."
        )
    return file


def holds_half(path: Path) -> bool:
    """Tells whether a graph holds float16 or bfloat16 tensors.

    ONNX Runtime 1.31 dies of a segmentation fault while it lays out float16 attention with a
    dynamic batch (``ORT_ENABLE_ALL``). Layouts are for float32 kernels: half precision loses
    nothing where they are left out (``ORT_ENABLE_EXTENDED``).
    """
    onnx = require("onnx", "finish")
    half = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    graph = onnx.load(str(path), load_external_data=False).graph
    if any(tensor.data_type in half for tensor in graph.initializer):
        return True
    values = (*graph.input, *graph.output, *graph.value_info)
    return any(value.type.tensor_type.elem_type in half for value in values)
