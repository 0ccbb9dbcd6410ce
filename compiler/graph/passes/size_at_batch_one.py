"""Sizes that a dynamic batch leaves open, found for a batch of one.

Where shapes are computed in the graph (attention reshapes by the batch), exporters leave
dimensions unknown, and what cannot be sized cannot be counted.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph.passes import RewritePass

BATCH_ONE_KEY = "skipc.shape_at_batch_one"
"""Metadata of a value: its dimensions for a batch of one, joined by commas."""


class SizeAtBatchOnePass(RewritePass):
    """Notes the shape for a batch of one at every value whose own is not fully known."""

    def rewrite(self, model: ir.Model) -> None:
        """Infers shapes on a copy, its inputs at a batch of one."""
        open_values = [
            value
            for node in model.graph
            for value in node.outputs
            if value.shape is None or value.shape.has_unknown_dim()
        ]
        if not open_values:
            return
        copy = model.clone()
        for value in copy.graph.inputs:
            if value.shape is not None:
                sizes = (dim if isinstance(dim, int) else 1 for dim in value.shape)
                value.shape = ir.Shape(sizes)
        for node in copy.graph.all_nodes():
            for value in node.outputs:
                value.shape = None
        # An operator that onnx does not know leaves its sizes open.
        common.ShapeInferencePass(check_type=False, strict_mode=False)(copy)
        found = {value.name: value.shape for node in copy.graph for value in node.outputs}
        for value in open_values:
            shape = found[value.name]
            if shape is not None and shape.is_static():
                value.metadata_props[BATCH_ONE_KEY] = ",".join(map(str, shape))
