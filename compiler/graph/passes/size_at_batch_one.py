"""Sizes that free dimensions leave open, found for a batch of one and typical sizes.

Where shapes are computed in the graph (attention reshapes by the batch), exporters leave
dimensions unknown, and what cannot be sized cannot be counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph.passes import RewritePass
from skipc.runtime.bundle.tensors import BATCH, typical_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skipc.runtime.bundle.tensors import Dimension

BATCH_ONE_KEY = "skipc.shape_at_batch_one"
"""Metadata of a value: its dimensions for a batch of one, joined by commas."""


class SizeAtBatchOnePass(RewritePass):
    """Notes the shape for a batch of one at every value whose own does not tell it.

    All other dimensions have their typical sizes.
    """

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        super().__init__()
        self._sizes = {**typical_sizes(dimensions), BATCH: 1}

    def rewrite(self, model: ir.Model) -> None:
        """Infers shapes on a copy, its inputs at a batch of one."""
        inputs = [value for value in model.graph.inputs if _is_open(value)]
        for value in inputs:
            value.metadata_props[BATCH_ONE_KEY] = _text(self._shape(value))
        open_values = [v for node in model.graph for v in node.outputs if _is_open(v)]
        if not open_values:
            return
        copy = model.clone()
        for value in copy.graph.inputs:
            if value.shape is not None:
                value.shape = ir.Shape(self._shape(value))
        for node in copy.graph.all_nodes():
            for value in node.outputs:
                value.shape = None
        # An operator that onnx does not know leaves its sizes open.
        common.ShapeInferencePass(check_type=False, strict_mode=False)(copy)
        found = {value.name: value.shape for node in copy.graph for value in node.outputs}
        for value in open_values:
            shape = found[value.name]
            if shape is not None and shape.is_static():
                value.metadata_props[BATCH_ONE_KEY] = _text(shape)

    def _shape(self, value: ir.Value) -> list[int]:
        """Returns the shape of an input."""
        return [
            dim if isinstance(dim, int) else self._sizes.get(str(dim.value), 1)
            for dim in value.shape or ()
        ]


def _is_open(value: ir.Value) -> bool:
    """Tells whether the shape does not tell itself what it is for a batch of one."""
    return value.shape is None or any(
        not isinstance(dim, int) and (dim.value is None or dim.free_symbols() != {BATCH})
        for dim in value.shape
    )


def _text(shape: Iterable[int | ir.SymbolicDim]) -> str:
    return ",".join(map(str, shape))
