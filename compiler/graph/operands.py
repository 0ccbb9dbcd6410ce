"""What a node reads: looked at, replaced, multiplied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.graph.index import MODULE_KEY

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAMMA, BIAS, MEAN, VARIANCE = 1, 2, 3, 4
"""Which operand of ``BatchNormalization`` is what."""


def operand(node: ir.Node, place: int) -> ir.Value:
    """Returns an operand that is there."""
    value = node.inputs[place]
    assert value is not None
    return value


def constant(node: ir.Node, place: int) -> ir.TensorProtocol:
    """Returns the tensor of a constant operand."""
    tensor = operand(node, place).const_value
    assert tensor is not None
    return tensor


def constant_array(node: ir.Node, place: int) -> NDArray[np.float64]:
    """Returns a constant operand in double precision."""
    array: NDArray[np.float64] = constant(node, place).numpy().astype(np.float64)
    return array


def graph_of(node: ir.Node) -> ir.Graph:
    """Returns the graph that a node is in."""
    assert isinstance(node.graph, ir.Graph)
    return node.graph


def number_like(value: ir.Value, number: float) -> ir.TensorProtocol:
    """Returns a number as a tensor of the type of ``value``."""
    assert value.dtype is not None
    return ir.tensor(np.asarray(number).astype(value.dtype.numpy()))


def set_operand(node: ir.Node, place: int, array: NDArray[np.floating]) -> None:
    """Puts a constant of its own, in the operand's type, in place of a constant operand."""
    dtype, graph = operand(node, place).dtype, graph_of(node)
    assert dtype is not None
    name = f"{node.outputs[0].name}.{('x', 'weight', 'bias', 'mean', 'variance')[place]}"
    while name in graph.initializers:
        name += "_"
    new = ir.val(
        name, const_value=ir.tensor(np.ascontiguousarray(array).astype(dtype.numpy()))
    )
    graph.register_initializer(new)
    node.replace_input_with(place, new)


def multiply(node: ir.Node, place: int, factor: float, name: str) -> None:
    """Lets ``node`` read its operand times ``factor``, a constant of that name."""
    times = product(operand(node, place), factor, name, graph_of(node))
    if MODULE_KEY in node.metadata_props:
        times.metadata_props[MODULE_KEY] = node.metadata_props[MODULE_KEY]
    graph_of(node).insert_before(node, times)
    node.replace_input_with(place, times.outputs[0])


def product(value: ir.Value, factor: float, name: str, graph: ir.Graph) -> ir.Node:
    """Returns a multiplication that is not in the graph yet; its constant is."""
    while name in graph.initializers:
        name += "_"
    number = ir.val(name, const_value=number_like(value, factor))
    graph.register_initializer(number)
    times = ir.node("Mul", [value, number])
    times.outputs[0].name = f"{name}d"
    times.outputs[0].shape, times.outputs[0].type = value.shape, value.type
    return times
