"""An ONNX file as others write it becomes a graph as the exporter of PyTorch writes it.

What the units, the costs and the passes rely on afterwards: constants are initializers, none
of them an input; names are unique; there are no functions; joins are additions; sizes are
known where the inputs fix them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph.operands import operand
from skipc.compiler.graph.passes import RewritePass
from skipc.compiler.graph.passes.joins_as_additions import JoinsAsAdditionsPass
from skipc.compiler.graph.passes.tidy_export import SettleSizesPass

if TYPE_CHECKING:
    from skipc.runtime.bundle.tensors import TensorSpec

SMALL = 1024
"""Elements: sizes are computed from such tensors, weights are larger."""

_NAME = re.compile(r"[A-Za-z_]")
"""Some write "?" for every size that they do not know."""

_FILLED = 1 << 26
"""Elements: a weight of more is left to be filled when it is run."""

OLD_IR_VERSION = 4
"""Before this one, weights had to be inputs as well."""


def normalise(model: ir.Model, inputs: tuple[TensorSpec, ...]) -> ir.Model:
    """Returns the graph of an ONNX file in the form that everything after reading expects.

    ``model`` went through ``ForgetSizesPass`` and may be changed; a ``SupernetError`` is
    raised where the inputs contradict sizes that it fixes.
    """
    from onnxscript.optimizer import fold_constants

    model.ir_version = max(model.ir_version, OLD_IR_VERSION)
    for step in (
        common.InlinePass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
        common.NameFixPass(),
        SettleSizesPass(inputs),
        FillWeightsPass(),
    ):
        step(model)
    fold_constants(
        model, onnx_shape_inference=True, input_size_limit=SMALL, output_size_limit=SMALL
    )
    for again in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.NameFixPass(),
        JoinsAsAdditionsPass(),
        common.RemoveUnusedNodesPass(),
    ):
        again(model)
    return common.ShapeInferencePass()(model).model


class FillWeightsPass(RewritePass):
    """Makes initializers of what is filled with one number, as weights left out of a file."""

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the main graph."""
        for node in list(model.graph):
            if node.op_type != "ConstantOfShape":
                continue
            shape = operand(node, 0).const_value
            if shape is None or np.prod(shape.numpy()) > _FILLED:
                continue
            value, result = node.attributes.get("value"), node.outputs[0]
            one = np.float32(0) if value is None else value.as_tensor().numpy().reshape(())
            name, result.name = result.name, f"{result.name}.filled"
            held = ir.val(name, const_value=ir.tensor(np.full(shape.numpy(), one)))
            model.graph.register_initializer(held)
            result.replace_all_uses_with(held)
            model.graph.remove(node, safe=True)


class OpenSizesPass(RewritePass):
    """Opens heights and widths of images that are to be others than the file's."""

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the shapes of inputs."""
        for value in model.graph.inputs:
            if value.shape is not None and len(value.shape) == 4:
                value.shape = ir.Shape([*list(value.shape)[:2], None, None])


class ForgetSizesPass(RewritePass):
    """Forgets sizes that say what the writer knew, not what goes in.

    A size of 0 or less, or without a real name, is an open one. Where an input has open sizes,
    those written at the values behind it may be those of an earlier input.
    """

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the shapes of all values."""
        fixed = all(map(_is_fixed, model.graph.inputs))
        for value in model.graph.inputs:
            if value.shape is not None:
                value.shape = ir.Shape(
                    [dim if _is_known(dim) else None for dim in value.shape]
                )
        for node in model.graph.all_nodes():
            for value in node.outputs:
                if not (fixed and _is_fixed(value)):
                    value.shape = None


def _is_fixed(value: ir.Value) -> bool:
    return value.shape is not None and all(map(_is_number, value.shape))


def _is_number(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, int) and dim > 0


def _is_known(dim: int | ir.SymbolicDim) -> bool:
    return _is_number(dim) or (not isinstance(dim, int) and bool(_NAME.match(dim.value or "")))
