"""Folds batch norms into the kernels before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
import onnx_ir as ir

from skipc.compiler.graph.batch_norms import batch_norms, folds, is_norm
from skipc.compiler.graph.passes.set_norms import (
    BIAS,
    GAMMA,
    MEAN,
    VARIANCE,
    operand_array,
    set_operand,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@final
class FoldedKernels:
    """Kernels times the multipliers of the norms behind them.

    Configurations share tensor objects: what several multiply alike is multiplied once.
    """

    def __init__(self) -> None:
        # The kernel is kept so that its id stays its own.
        self._known: dict[tuple[int, bytes], tuple[ir.TensorProtocol, ir.TensorProtocol]] = {}

    def product(self, node: ir.Node, factor: NDArray[np.float64]) -> ir.TensorProtocol:
        """Returns the kernel of ``node`` with each output channel times its factor."""
        kernel = _constant(node, 1)
        key = id(kernel), factor.tobytes()
        if key not in self._known:
            array = kernel.numpy()
            by_channel = factor.astype(array.dtype).reshape(_broadcast(node, array.shape))
            self._known[key] = kernel, ir.tensor((_grouped(node, array) * by_channel).reshape(
                array.shape
            ))  # fmt: skip
        return self._known[key][1]


class FoldNormsPass(ir.passes.InPlacePass):
    """Folds every batch norm that stands behind a kernel of its own.

    Args:
        folded: The products; shared by all subnets of a family.
        kept: Outputs of the batch norms to leave as they are.
    """

    def __init__(self, folded: FoldedKernels, kept: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._folded = folded
        self._kept = kept

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes kernels and biases; the norms' own constants are left unused."""
        modified = False
        for norm in batch_norms(model):
            if is_norm(norm) and folds(norm) and str(norm.outputs[0].name) not in self._kept:
                self._fold(norm)
                modified = True
        return ir.passes.PassResult(model, modified=modified)

    def _fold(self, norm: ir.Node) -> None:
        data = norm.inputs[0]
        assert data is not None
        kernel = data.producer()
        assert kernel is not None
        epsilon = norm.attributes.get_float("epsilon", 1e-5)
        factor = operand_array(norm, GAMMA) / np.sqrt(operand_array(norm, VARIANCE) + epsilon)
        weight = kernel.inputs[1]
        assert weight is not None
        own = len(kernel.inputs) > 2 and kernel.inputs[2] is not None
        bias = operand_array(kernel, BIAS) if own else np.zeros(1)
        if "beta" in kernel.attributes:  # of Gemm: a factor of its bias
            bias = bias * kernel.attributes.pop("beta").as_float()
        bias = (bias - operand_array(norm, MEAN)) * factor + operand_array(norm, BIAS)
        weight.const_value = self._folded.product(kernel, factor)
        if not own:  # what stands there has the type that the bias takes
            kernel.resize_inputs(3)
            kernel.replace_input_with(BIAS, weight)
        set_operand(kernel, BIAS, bias)
        _take_place(kernel, norm)


def _take_place(kernel: ir.Node, norm: ir.Node) -> None:
    """Lets the kernel return what the norm returned, name included."""
    result, normed = kernel.outputs[0], norm.outputs[0]
    name = normed.name
    normed.name = f"{name}.folded"
    normed.replace_all_uses_with(result, replace_graph_outputs=True)
    result.name = name
    assert norm.graph is not None
    norm.graph.remove(norm, safe=True)


def _constant(node: ir.Node, operand: int) -> ir.TensorProtocol:
    value = node.inputs[operand]
    assert value is not None
    assert value.const_value is not None
    return value.const_value


def _grouped(node: ir.Node, kernel: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns the kernel of a ``ConvTranspose`` as (group, in, out, ...), others as it is."""
    if node.op_type != "ConvTranspose":
        return kernel
    group = node.attributes.get_int("group", 1)
    return kernel.reshape(group, -1, *kernel.shape[1:])


def _broadcast(node: ir.Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape in which output channels lie along those of ``_grouped``."""
    if node.op_type == "ConvTranspose":
        return (node.attributes.get_int("group", 1), 1, shape[1], *(1,) * (len(shape) - 2))
    if node.op_type == "Gemm" and not node.attributes.get_int("transB", 0):
        return (1, -1)
    return (-1, *(1,) * (len(shape) - 1))
