"""Multiplies operands of nodes by numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.graph.index import MODULE_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.compiler.cut import Cut


class ScaleOperandsPass(ir.passes.InPlacePass):
    """Multiplies operands by a factor each; of a node one operand may be scaled."""

    def __init__(self, scales: Mapping[Cut, float]) -> None:
        super().__init__()
        self._scales = {cut.node: (cut.operand, factor) for cut, factor in scales.items()}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Inserts one multiplication per operand."""
        for node in list(model.graph):
            name = str(node.outputs[0].name)
            if name in self._scales:
                multiply(node, *self._scales[name], f"{name}.survival")
        return ir.passes.PassResult(model, modified=bool(self._scales))


def multiply(node: ir.Node, operand: int, factor: float, name: str) -> None:
    """Lets ``node`` read its operand times ``factor``, a constant of that name."""
    value = node.inputs[operand]
    assert value is not None
    assert node.graph is not None
    times = product(value, factor, name, node.graph)
    if MODULE_KEY in node.metadata_props:
        times.metadata_props[MODULE_KEY] = node.metadata_props[MODULE_KEY]
    node.graph.insert_before(node, times)
    node.replace_input_with(operand, times.outputs[0])


def product(value: ir.Value, factor: float, name: str, graph: object) -> ir.Node:
    """Returns a multiplication that is not in the graph yet; its constant is."""
    assert isinstance(graph, ir.Graph)
    assert value.dtype is not None
    number = np.asarray(factor).astype(value.dtype.numpy())
    constant = ir.val(name, const_value=ir.tensor(number))
    graph.register_initializer(constant)
    times = ir.node("Mul", [value, constant])
    times.outputs[0].name = f"{name}d"
    times.outputs[0].shape = value.shape
    times.outputs[0].type = value.type
    return times
