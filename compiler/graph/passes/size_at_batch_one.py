"""Sizes that free dimensions leave open, found for a batch of one and typical sizes.

Where shapes are computed in the graph (attention reshapes by the batch), exporters leave
dimensions unknown, and what cannot be sized cannot be counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph.passes import RewritePass
from skipc.runtime.bundle.sizes import size_at
from skipc.runtime.bundle.tensors import BATCH, typical_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime.bundle.tensors import Dimension, Sizes

_SMALL = 1024
"""Elements: sizes are computed from such tensors."""

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
        found = [v for node in model.graph for v in node.outputs]
        open_values = [value for value in (*model.graph.inputs, *found) if _is_open(value)]
        if not open_values:
            return
        shapes = shapes_at(model, self._sizes)
        for value in open_values:
            shape = shapes.get(str(value.name)) or self._evaluated(value)
            if shape is not None:
                value.metadata_props[BATCH_ONE_KEY] = ",".join(map(str, shape))

    def _evaluated(self, value: ir.Value) -> tuple[int, ...] | None:
        """Returns what a shape says itself, where inference lost it; None if it does not."""
        named = [dim if isinstance(dim, int) else str(dim.value) for dim in value.shape or ()]
        sizes = [n if isinstance(n, int) else size_at(n, self._sizes) for n in named]
        return None if value.shape is None or -1 in sizes else tuple(sizes)


def shapes_at(model: ir.Model, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of inputs and of what nodes compute, by name, as far as known."""
    from onnxscript.optimizer import fold_constants  # costs are counted without it

    copy = model.clone()
    for value in copy.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape(
                dim if isinstance(dim, int) else sizes.get(str(dim.value), 1)
                for dim in value.shape
            )
    for node in copy.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    # An operator that onnx does not know leaves its sizes open.
    common.ShapeInferencePass(check_type=False, strict_mode=False)(copy)
    found = _known(copy)
    if len(found) < len(copy.graph.inputs) + sum(len(node.outputs) for node in copy.graph):
        # Sizes that the graph computes are constants at these ones.
        fold_constants(
            copy, onnx_shape_inference=True, input_size_limit=_SMALL, output_size_limit=_SMALL
        )
        found = {**_known(copy), **found}
    return found


def _known(model: ir.Model) -> dict[str, tuple[int, ...]]:
    values = [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]
    return {
        str(value.name): tuple(int(dim) for dim in value.shape)  # type: ignore[arg-type]
        for value in values
        if value.shape is not None and value.shape.is_static()
    }


def _is_open(value: ir.Value) -> bool:
    """Tells whether the shape does not tell itself what it is for a batch of one."""
    return value.shape is None or any(
        not isinstance(dim, int) and (dim.value is None or dim.free_symbols() != {BATCH})
        for dim in value.shape
    )
