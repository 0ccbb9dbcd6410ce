"""Sizes that a dynamic batch leaves open, found for a batch of one.

Where shapes are computed in the graph (attention reshapes by the batch), exporters leave
dimensions unknown, and what cannot be sized cannot be counted.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from skipc.compiler.graph.passes import RewritePass

BATCH_ONE_KEY = "skipc.shape_at_batch_one"
"""Metadata of a value: its dimensions for a batch of one, joined by commas."""

_SMALL_BYTES = 4096  # what shapes are computed from is small; weights only have sizes


class SizeAtBatchOnePass(RewritePass):
    """Notes the shape for a batch of one at every value whose own is not fully known."""

    def rewrite(self, model: ir.Model) -> None:
        """Infers shapes on a copy without weights, its inputs at a batch of one."""
        open_values = [
            value
            for node in model.graph
            for value in node.outputs
            if value.shape is None or any(_unknown(dim) for dim in value.shape)
        ]
        if not open_values:
            return
        sizes = _inferred(model)
        for value in open_values:
            found = sizes.get(str(value.name))
            if found is not None:
                value.metadata_props[BATCH_ONE_KEY] = ",".join(map(str, found))


def _unknown(dim: int | ir.SymbolicDim) -> bool:
    return not isinstance(dim, int) and dim.value is None


def _inferred(model: ir.Model) -> dict[str, tuple[int, ...]]:
    copy = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.opset_imports.items():
        copy.opset_import.append(onnx.helper.make_opsetid(domain, version))
    graph = copy.graph
    graph.name = "sizes"
    for node in model.graph:
        graph.node.append(ir.to_proto(node))
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes <= _SMALL_BYTES:
            graph.initializer.append(ir.to_proto(ir.tensor(tensor.numpy(), name=value.name)))
            continue
        if value.dtype is None or value.shape is None:
            return {}
        dims = [dim if isinstance(dim, int) else 1 for dim in value.shape]
        kind = onnx.helper.make_tensor_type_proto(int(value.dtype), dims)
        graph.input.append(onnx.helper.make_value_info(str(value.name), kind))
    try:
        found = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return {}  # an operator that onnx does not know: its sizes stay open
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*found.graph.value_info, *found.graph.output)
        if value.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }
