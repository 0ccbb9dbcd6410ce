"""Removes what turns integers into numbers and these back into the same integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.graph.operands import operand
from skipc.compiler.graph.passes import RewritePass

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir


class DropRequantisingPass(RewritePass):
    """Lets what reads a QuantizeLinear read the integers that a DequantizeLinear before had.

    Where scale and zero point are the same, these are the integers, to the bit.
    """

    def rewrite(self, model: ir.Model) -> None:
        """Rewires the readers; dead nodes stay."""
        for node in list(model.graph):
            if node.op_type != "QuantizeLinear" or node.outputs[0].is_graph_output():
                continue
            before = operand(node, 0).producer()
            if before is None or before.op_type != "DequantizeLinear":
                continue
            if same_scale(before.inputs[1:], node.inputs[1:]):
                node.outputs[0].replace_all_uses_with(operand(before, 0))


def same_scale(left: Sequence[ir.Value | None], right: Sequence[ir.Value | None]) -> bool:
    """Tells whether two pairs of scale and zero point are the same constants."""
    return len(left) == len(right) == 2 and all(map(_equal, left, right))


def _equal(left: ir.Value | None, right: ir.Value | None) -> bool:
    if left is None or right is None or left.const_value is None or right.const_value is None:
        return False
    a, b = left.const_value, right.const_value
    return a.dtype == b.dtype and np.array_equal(a.numpy(), b.numpy())
