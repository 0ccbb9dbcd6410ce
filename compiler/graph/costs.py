"""Multiply-accumulate operations and parameters of graph nodes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from skipc.compiler.graph.passes.size_at_batch_one import BATCH_ONE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir


_TRAINED_OPERANDS = {"BatchNormalization": 3, "DequantizeLinear": 1, "QuantizeLinear": 0}
_INTEGER_OPERAND = {"DequantizeLinear": 0, "MatMulInteger": 1}
_KERNEL_OPERAND = {
    "Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "DeformConv": 1, "QLinearConv": 3
}  # fmt: skip


def node_macs(node: ir.Node) -> int:
    """Returns the multiply-accumulate operations of one run of ``node``.

    Counted for convolutions, matrix products and recurrent layers, as is usual (bias, norms
    and activations cost none); a free batch counts as 1, another free dimension as its
    typical size. A node whose shapes are unknown counts as 0.
    """
    operator = node.op_type
    if operator in _KERNEL_OPERAND:
        # Each weight is used once per position of the output (of the input, transposed).
        data = node.inputs[0] if operator == "ConvTranspose" else node.outputs[0]
        sizes = _shapes(data, node.inputs[_KERNEL_OPERAND[operator]])
        return sizes[0][0] * math.prod(sizes[0][2:]) * math.prod(sizes[1]) if sizes else 0
    if operator in ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"):
        sizes = _shapes(node.inputs[0], node.outputs[0])
        inner = 0 if node.attributes.get_int("transA", 0) else -1
        return sizes[0][inner] * math.prod(sizes[1]) if sizes else 0
    if operator in ("GRU", "LSTM", "RNN"):
        # Steps and rows are the first two dimensions of the data, in either layout.
        sizes = _shapes(*node.inputs[:3])
        return math.prod(sizes[0][:2]) * sum(map(math.prod, sizes[1:])) if sizes else 0
    return 0


def _shapes(*values: ir.Value | None) -> list[list[int]]:
    """Returns the shapes for a batch of 1; nothing where one is unknown."""
    shapes = [shape_at_batch_one(value) for value in values]
    known = [shape for shape in shapes if shape is not None]
    return known if len(known) == len(shapes) else []


def total_macs(nodes: Iterable[ir.Node]) -> int:
    """Returns the multiply-accumulate operations of all ``nodes``."""
    return sum(node_macs(node) for node in nodes)


def parameters(nodes: Iterable[ir.Node]) -> int:
    """Returns the elements of the trained constants that only nodes read, quantised or not."""
    inside = set(nodes)
    read: set[ir.Value | None] = set()
    for node in inside:
        read.update(node.inputs[: _TRAINED_OPERANDS.get(node.op_type)])
    quantised = {
        node.inputs[_INTEGER_OPERAND[node.op_type]]
        for node in inside
        if node.op_type in _INTEGER_OPERAND
    }
    counted = [
        value.const_value
        for value in read
        if value is not None
        and value.is_initializer()
        and all(user in inside for user, _ in value.uses())
        and (value in quantised or _is_float(value))
    ]
    return sum(tensor.size for tensor in counted if tensor is not None)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def shape_at_batch_one(value: ir.Value | None) -> list[int] | None:
    """Returns the shape of ``value`` for a batch of 1; None where it is unknown."""
    if value is None:
        return None
    noted = value.metadata_props.get(BATCH_ONE_KEY)
    if noted is not None:
        return [int(size) for size in noted.split(",") if size]
    if value.shape is None:
        return None
    return [dim if isinstance(dim, int) else _at_batch_one(dim) for dim in value.shape]


def _at_batch_one(dim: ir.SymbolicDim) -> int:
    """Returns the dimension (``N``, ``4*N`` ...) for a batch of 1; unknown ones count as 1."""
    size = dim.evaluate(dict.fromkeys(dim.free_symbols(), 1))
    return size if isinstance(size, int) else 1
