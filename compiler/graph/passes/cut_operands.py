"""Cuts a graph: operands that are zero go, and so does what only they used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.cut import operands_by_node
from skipc.compiler.graph.operands import graph_of, operand
from skipc.compiler.graph.passes import RewritePass
from skipc.compiler.graph.passes.drop_repeated_activations import DropRepeatedActivationsPass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skipc.compiler.cut import Cut


def without(model: ir.Model, cuts: Iterable[Cut]) -> ir.Model:
    """Returns a copy of ``model`` in which the cut operands are gone, with all only they used.

    It shares its tensors with ``model``, which is not changed; inputs and outputs keep names.
    """
    copy = model.clone()
    passes = ir.passes.Sequential(
        CutOperandsPass(cuts),
        common.RemoveUnusedNodesPass(),
        DropRepeatedActivationsPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
    )
    result: ir.Model = passes(copy).model
    return result


class CutOperandsPass(RewritePass):
    """Lets cut operands go: an addition becomes its other operand, a concatenation is padded.

    Dead nodes are left for ``RemoveUnusedNodesPass``. A graph output keeps its name. The cuts
    were found in this graph or in one it was cloned from.
    """

    def __init__(self, cuts: Iterable[Cut]) -> None:
        super().__init__()
        self._operands = operands_by_node(cuts)

    def rewrite(self, model: ir.Model) -> None:
        """Rewires what reads the nodes' results."""
        # Network order: what stays may itself be the result of an addition that was cut.
        for node in list(model.graph):
            cut = self._operands.get(str(node.outputs[0].name))
            if cut is None:
                continue
            if node.op_type == "Concat":
                kept = _padded(node, cut)
            else:
                kept = operand(node, *({0, 1} - cut))
            joined = node.outputs[0]
            if joined.is_graph_output():
                _keep_output(node, kept)
            else:
                joined.replace_all_uses_with(kept)


def _padded(node: ir.Node, cut: set[int]) -> ir.Value:
    """Returns what a concatenation gives with some of its operands zero."""
    axis = node.attributes.get_int("axis", 0)
    kept = [value for place, value in enumerate(node.inputs) if value and place not in cut]
    # Zeros in front of each operand that is kept, and behind the last one.
    zeros = [0]
    for place in range(len(node.inputs)):
        shape = operand(node, place).shape
        if place not in cut:
            zeros.append(0)
        else:
            assert shape is not None
            size = shape[axis]
            assert isinstance(size, int)
            zeros[-1] += size
    behind = [0] * (len(kept) - 1) + zeros[len(kept) :]
    values = [_pad(node, *part) for part in zip(kept, zeros, behind, strict=False)]
    if len(values) == 1:
        return values[0]
    return _beside(node, ir.node("Concat", values, {"axis": axis}))


def _pad(node: ir.Node, value: ir.Value, before: int, behind: int) -> ir.Value:
    """Returns ``value`` with zeros around it along the axis of a concatenation."""
    if not before and not behind:
        return value
    graph, shape = graph_of(node), value.shape
    assert shape is not None
    axis = node.attributes.get_int("axis", 0) % len(shape)
    pads = np.zeros((2, len(shape)), np.int64)
    pads[:, axis] = before, behind
    sizes = ir.val(
        f"{value.name}.{before}.{behind}.pads", const_value=ir.tensor(pads.reshape(-1))
    )
    while str(sizes.name) in graph.initializers:
        sizes.name = f"{sizes.name}_"
    graph.register_initializer(sizes)
    return _beside(node, ir.node("Pad", [value, sizes]))


def _beside(node: ir.Node, new: ir.Node) -> ir.Value:
    """Returns what a new node computes, set before ``node`` in its place."""
    graph_of(node).insert_before(node, new)
    new.metadata_props.update(node.metadata_props)
    new.outputs[0].type = node.outputs[0].type
    if new.op_type == node.op_type:
        new.outputs[0].shape = node.outputs[0].shape
    return new.outputs[0]


def _keep_output(join: ir.Node, kept: ir.Value) -> None:
    """Lets a copy of ``kept`` take the place of the join's output, name included."""
    joined = join.outputs[0]
    name = joined.name
    copy = ir.node("Identity", [kept])
    copy.outputs[0].shape = joined.shape
    copy.outputs[0].type = joined.type
    graph_of(join).insert_before(join, copy)
    joined.name = f"{name}.removed"
    copy.outputs[0].name = name
    joined.replace_all_uses_with(copy.outputs[0], replace_graph_outputs=True)
