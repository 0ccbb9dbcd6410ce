"""Narrows a graph: of the channels of a group only some stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
import onnx_ir as ir

from skipc.compiler.graph.operands import constant, graph_of, operand
from skipc.compiler.graph.passes import RewritePass
from skipc.compiler.graph.passes.size_at_batch_one import BATCH_ONE_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.width_groups import Group

    Kept = NDArray[np.bool_]


@final
class NarrowTensors:
    """Tensors with some of their entries: those that configurations share are made once."""

    def __init__(self) -> None:
        # The tensor is kept so that its id stays its own.
        self._known: dict[
            tuple[int, int, bytes], tuple[ir.TensorProtocol, ir.TensorProtocol]
        ] = {}

    def narrowed(self, tensor: ir.TensorProtocol, axis: int, kept: Kept) -> ir.TensorProtocol:
        """Returns the entries of ``tensor`` that are ``kept`` along a dimension."""
        key = id(tensor), axis, kept.tobytes()
        if key not in self._known:
            array = np.compress(kept, tensor.numpy(), axis)
            self._known[key] = tensor, ir.tensor(np.ascontiguousarray(array))
        return self._known[key][1]


class NarrowPass(RewritePass):
    """Takes channels out of all that makes, carries and mixes them.

    Args:
        groups: Each group with which of its channels stay. They were found in this graph, or
            in one that this was made from; nodes that are gone since are passed over.
        tensors: Makes the narrow tensors.
    """

    def __init__(self, groups: Sequence[tuple[Group, Kept]], tensors: NarrowTensors) -> None:
        super().__init__()
        self._groups = groups
        self._tensors = tensors

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites constants, and the sizes of the values behind them."""
        nodes = {str(node.outputs[0].name): node for node in model.graph}
        values = {value.name: value for node in model.graph for value in node.outputs}
        for group, kept in self._groups:
            count = int(kept.sum())
            for one in (*group.made, *group.passed, *group.mixed):
                if one.node in nodes:
                    tensor = constant(nodes[one.node], one.operand)
                    narrow = self._tensors.narrowed(tensor, one.axis, one.entries(kept))
                    self._set(nodes[one.node], one.operand, narrow)
            for one in group.sizes:
                if one.node in nodes:
                    sizes = constant(nodes[one.node], one.operand).numpy().copy()
                    sizes[one.axis] = one.outer * count * one.inner
                    self._set(nodes[one.node], one.operand, ir.tensor(sizes))
            for name in group.depthwise:
                if name in nodes:
                    nodes[name].attributes["group"] = ir.AttrInt64("group", count)
            for each in group.carriers:
                if each.value in values:
                    size = each.outer * count * each.inner
                    resize(values[each.value], each.axis, size)

    def _set(self, node: ir.Node, place: int, tensor: ir.TensorProtocol) -> None:
        """Puts a tensor in place of a constant, which other nodes may read as it was."""
        value, graph = operand(node, place), graph_of(node)
        if len(value.uses()) > 1:
            name = f"{node.outputs[0].name}.{place}"
            while name in graph.initializers:
                name += "_"
            value = ir.val(name, const_value=tensor)
            graph.register_initializer(value)
            node.replace_input_with(place, value)
        value.const_value = tensor
        value.shape = ir.Shape(tensor.shape.numpy())


def resize(value: ir.Value, axis: int, count: int) -> None:
    """Writes a number of channels into the size of a value."""
    if value.shape is not None:
        sizes = list(value.shape)
        # Beside a dynamic batch in the same dimension the number is not this one.
        sizes[axis] = count if isinstance(sizes[axis], int) else ir.SymbolicDim(None)
        value.shape = ir.Shape(sizes)
    noted = value.metadata_props.get(BATCH_ONE_KEY)
    if noted:
        texts = noted.split(",")
        texts[axis] = str(count)
        value.metadata_props[BATCH_ONE_KEY] = ",".join(texts)
