"""Keeps zero padding before a max pooling apart from it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from skipc.compiler.graph.passes import RewritePass


class KeepZeroPaddingPass(RewritePass):
    """Pads with the smallest number above zero where a max pooling follows.

    ONNX Runtime (1.31 and before) merges a padding with exact zeros into the pooling's own,
    with minus infinity: where all values are negative, the outputs differ.
    """

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the padding value of such nodes."""
        for node in list(model.graph):
            padded = node.outputs[0]
            if node.op_type != "Pad" or not _pads_with_zeros(node):
                continue
            if not any(user.op_type == "MaxPool" for user in padded.consumers()):
                continue
            dtype = padded.dtype or (node.inputs[0] and node.inputs[0].dtype)
            if dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
                continue
            smallest = np.finfo(dtype.numpy()).smallest_subnormal
            value = ir.val(f"{padded.name}.zero", const_value=ir.tensor(np.asarray(smallest)))
            model.graph.register_initializer(value)
            if len(node.inputs) < 3:
                node.resize_inputs(3)
            node.replace_input_with(2, value)


def _pads_with_zeros(node: ir.Node) -> bool:
    if node.attributes.get_string("mode", "constant") != "constant":
        return False
    value = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    if value is None:
        return True
    return tensor is not None and not tensor.numpy().any()
