"""Graphs in half precision, which ONNX Runtime's CPU cannot be given as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.extras import require

if TYPE_CHECKING:
    from pathlib import Path


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
