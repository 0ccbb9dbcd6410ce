"""Multiply-accumulate operations and parameters of graph nodes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from skipc.compiler.graph.passes.size_at_batch_one import BATCH_ONE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir


def node_macs(node: ir.Node) -> int:
    """Returns the multiply-accumulate operations of one run of ``node``.

    Counted for convolutions and matrix products, as is usual (bias, norms and activations
    cost none); a dynamic batch counts as 1. A node whose shapes are unknown counts as 0.
    """
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = shape_at_batch_one(node.inputs[1])
        # Each weight is used once per position of the output (of the input, transposed).
        data = node.outputs[0] if node.op_type == "Conv" else node.inputs[0]
        positions = shape_at_batch_one(data)
        if weight is None or positions is None:
            return 0
        return positions[0] * math.prod(positions[2:]) * math.prod(weight)
    if node.op_type == "Gemm":
        a, out = shape_at_batch_one(node.inputs[0]), shape_at_batch_one(node.outputs[0])
        if a is None or out is None:
            return 0
        transposed = node.attributes.get_int("transA", 0)
        return math.prod(out) * a[0 if transposed else 1]
    if node.op_type == "MatMul":
        a, out = shape_at_batch_one(node.inputs[0]), shape_at_batch_one(node.outputs[0])
        return 0 if a is None or out is None else math.prod(out) * a[-1]
    return 0


def total_macs(nodes: Iterable[ir.Node]) -> int:
    """Returns the multiply-accumulate operations of all ``nodes``."""
    return sum(node_macs(node) for node in nodes)


def parameters(nodes: Iterable[ir.Node]) -> int:
    """Returns the elements of the floating-point constants that only ``nodes`` read.

    The running statistics of a batch norm are none: they are not trained.
    """
    listed = tuple(nodes)
    inside = {id(node) for node in listed}
    values: dict[int, ir.Value] = {}
    for node in listed:
        trained = node.inputs[:3] if node.op_type == "BatchNormalization" else node.inputs
        for value in trained:
            if value is not None and value.is_initializer():
                values[id(value)] = value
    total = 0
    for value in values.values():
        tensor = value.const_value
        if tensor is None or not tensor.dtype.is_floating_point():
            continue
        if all(id(user) in inside for user, _ in value.uses()):
            total += tensor.size
    return total


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
