"""Folds batch norms into the kernels before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
import onnx_ir as ir

from skipc.compiler.graph.batch_norms import batch_norms, folds, is_norm
from skipc.compiler.graph.operands import (
    BIAS,
    GAMMA,
    MEAN,
    VARIANCE,
    constant,
    constant_array,
    graph_of,
    operand,
    set_operand,
)
from skipc.compiler.graph.passes import RewritePass

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
        kernel = constant(node, 1)
        key = id(kernel), factor.tobytes()
        if key not in self._known:
            array = kernel.numpy()
            by_channel = factor.astype(array.dtype).reshape(_broadcast(node, array.shape))
            multiplied = _grouped(node, array) * by_channel
            self._known[key] = kernel, ir.tensor(multiplied.reshape(array.shape))
        return self._known[key][1]


class FoldNormsPass(RewritePass):
    """Folds every batch norm behind a kernel of its own, but those with outputs ``kept``."""

    def __init__(self, folded: FoldedKernels, kept: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._folded = folded
        self._kept = kept

    def rewrite(self, model: ir.Model) -> None:
        """Changes kernels and biases; the norms' own constants are left unused."""
        for norm in batch_norms(model):
            if is_norm(norm) and folds(norm) and str(norm.outputs[0].name) not in self._kept:
                self._fold(norm)

    def _fold(self, norm: ir.Node) -> None:
        kernel = operand(norm, 0).producer()
        assert kernel is not None
        epsilon = norm.attributes.get_float("epsilon", 1e-5)
        deviation = np.sqrt(constant_array(norm, VARIANCE) + epsilon)
        factor = constant_array(norm, GAMMA) / deviation
        weight = operand(kernel, 1)
        own = len(kernel.inputs) > 2 and kernel.inputs[2] is not None
        bias = constant_array(kernel, BIAS) if own else np.zeros(1)
        if "beta" in kernel.attributes:  # of Gemm: a factor of its bias
            bias = bias * kernel.attributes.pop("beta").as_float()
        bias = (bias - constant_array(norm, MEAN)) * factor + constant_array(norm, BIAS)
        weight.const_value = self._folded.product(kernel, factor)
        if not own:  # what stands there has the type that the bias takes
            kernel.resize_inputs(3)
            kernel.replace_input_with(BIAS, weight)
        set_operand(kernel, BIAS, bias)
        result, normed = kernel.outputs[0], norm.outputs[0]
        name = normed.name
        normed.name = f"{name}.folded"
        normed.replace_all_uses_with(result, replace_graph_outputs=True)
        result.name = name
        graph_of(norm).remove(norm, safe=True)


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
