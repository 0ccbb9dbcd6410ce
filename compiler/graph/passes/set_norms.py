"""Gives batch norms other statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from skipc.compiler.norms.statistics import NormStatistics

GAMMA, BIAS, MEAN, VARIANCE = 1, 2, 3, 4
"""Which operand of ``BatchNormalization`` is what."""


class SetNormsPass(ir.passes.InPlacePass):
    """Replaces mean and variance of batch norms, by the name of what each computes."""

    def __init__(self, statistics: Mapping[str, NormStatistics]) -> None:
        super().__init__()
        self._statistics = statistics

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Registers new initializers; the old ones may be read by others."""
        modified = False
        for node in model.graph:
            found = self._statistics.get(str(node.outputs[0].name))
            if found is None or node.op_type != "BatchNormalization":
                continue
            set_operand(node, MEAN, found.mean)
            set_operand(node, VARIANCE, found.variance)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def operand_array(node: ir.Node, operand: int) -> NDArray[np.float64]:
    """Returns a constant operand in double precision."""
    value = node.inputs[operand]
    assert value is not None
    assert value.const_value is not None
    array: NDArray[np.float64] = value.const_value.numpy().astype(np.float64)
    return array


def set_operand(node: ir.Node, operand: int, array: NDArray[np.floating]) -> None:
    """Puts a constant of its own, in the operand's type, in place of a constant operand."""
    old = node.inputs[operand]
    assert old is not None
    assert old.dtype is not None
    assert node.graph is not None
    tensor = ir.tensor(np.ascontiguousarray(array).astype(old.dtype.numpy()))
    name = f"{node.outputs[0].name}.{('x', 'weight', 'bias', 'mean', 'variance')[operand]}"
    while name in node.graph.initializers:
        name += "_"
    new = ir.val(name, const_value=tensor)
    node.graph.register_initializer(new)
    node.replace_input_with(operand, new)
