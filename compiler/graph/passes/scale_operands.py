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
    """Multiplies operands by a factor each.

    Args:
        scales: The factors; of a node one operand may be scaled.
    """

    def __init__(self, scales: Mapping[Cut, float]) -> None:
        super().__init__()
        self._scales = {cut.node: (cut.operand, factor) for cut, factor in scales.items()}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Inserts one multiplication per operand."""
        graph = model.graph
        for node in list(graph):
            name = str(node.outputs[0].name)
            if name not in self._scales:
                continue
            operand, factor = self._scales[name]
            value = node.inputs[operand]
            assert value is not None
            assert value.dtype is not None
            number = np.asarray(factor).astype(value.dtype.numpy())
            scale = ir.val(f"{name}.survival", const_value=ir.tensor(number))
            graph.register_initializer(scale)
            product = ir.node("Mul", [value, scale])
            product.outputs[0].name = f"{name}.scaled"
            product.outputs[0].shape = value.shape
            product.outputs[0].type = value.type
            if MODULE_KEY in node.metadata_props:
                product.metadata_props[MODULE_KEY] = node.metadata_props[MODULE_KEY]
            graph.insert_before(node, product)
            node.replace_input_with(operand, product.outputs[0])
        return ir.passes.PassResult(model, modified=bool(self._scales))
