"""Lets a graph answer before its end: heads are attached, what no answer needs goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.network import Exit, LinearHead

_AXES_ARE_AN_INPUT = 18
"""From this opset on the axes of ReduceMean are an input."""


def answering(model: ir.Model, exits: Sequence[Exit], ends: bool) -> ir.Model:
    """Returns a copy of ``model`` that answers at the exits, and at its end if it ``ends``.

    The copy shares its tensors with ``model``, which is not changed.
    """
    copy = model.clone()
    passes = ir.passes.Sequential(
        AnswerEarlyPass(exits, ends),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
    )
    result: ir.Model = passes(copy).model
    return result


def ending(model: ir.Model) -> ir.Model:
    """Returns a copy that answers at its last output alone, without what only others need."""
    copy = model.clone()
    end = copy.graph.outputs[-1]
    copy.graph.outputs.clear()
    copy.graph.outputs.append(end)
    common.RemoveUnusedNodesPass()(copy)
    return copy


class AnswerEarlyPass(ir.passes.InPlacePass):
    """Attaches heads, and makes their answers the graph's outputs, before its end.

    Args:
        exits: The heads and where they go.
        ends: Whether the graph keeps its end, the last of its outputs.
    """

    def __init__(self, exits: Sequence[Exit], ends: bool) -> None:
        super().__init__()
        self._exits = exits
        self._ends = ends

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Adds the nodes of each head behind the one that computes what it reads."""
        graph = model.graph
        end = graph.outputs[-1]
        values = {str(value.name): value for node in graph for value in node.outputs}
        graph.outputs.clear()
        if not self._ends:
            # Its name may be an exit's now.
            end.name = f"{end.name}.end"
        opset = model.opset_imports[""]
        for each in self._exits:
            answer = values[each.at]
            if each.head is None:
                answer.name = each.output
            else:
                answer = _attached(graph, answer, each, each.head, opset, end)
            graph.outputs.append(answer)
        if self._ends:
            graph.outputs.append(end)
        return ir.passes.PassResult(model, modified=True)


def _attached(
    graph: ir.Graph, at: ir.Value, each: Exit, head: LinearHead, opset: int, end: ir.Value
) -> ir.Value:
    """Returns the answer of a head that is added to the graph."""
    assert at.shape is not None
    rows, (classes, channels) = at.shape[0], head.weight.shape
    value = at
    last = at.producer()
    assert last is not None

    def add(node: ir.Node, name: str, *shape: int | ir.SymbolicDim) -> ir.Value:
        nonlocal last
        assert last is not None
        graph.insert_after(last, node)
        last = node
        made = node.outputs[0]
        made.name, made.type, made.shape = name, value.type, ir.Shape(shape)
        return made

    def constant(
        array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], name: str
    ) -> ir.Value:
        held = ir.val(f"{each.name}.head.{name}", const_value=ir.tensor(array))
        graph.register_initializer(held)
        return held

    positions = [axis for axis in range(1, len(at.shape)) if axis != head.axis]
    name = f"{each.name}.head.mean"
    if len(positions) > 1 and head.axis == 1:
        # Unlike ReduceMean it is computed in the blocked layout that convolutions use.
        ones = [1] * len(positions)
        value = add(ir.node("GlobalAveragePool", [value]), f"{name}s", rows, channels, *ones)
        value = add(ir.node("Flatten", [value]), name, rows, channels)
    elif positions and opset >= _AXES_ARE_AN_INPUT:
        axes = constant(np.array(positions), "axes")
        node = ir.node("ReduceMean", [value, axes], {"keepdims": 0})
        value = add(node, name, rows, channels)
    elif positions:
        node = ir.node("ReduceMean", [value], {"axes": positions, "keepdims": 0})
        value = add(node, name, rows, channels)
    assert at.dtype is not None
    weights = [
        constant(array.astype(at.dtype.numpy()), what)
        for array, what in ((head.weight, "weight"), (head.bias, "bias"))
    ]
    gemm = ir.node("Gemm", [value, *weights], {"transB": 1})
    assert end.dtype is not None
    if end.dtype is at.dtype:
        answer = add(gemm, each.output, rows, classes)
    else:  # a half-precision network with float32 outputs
        value = add(gemm, f"{each.name}.head.scores", rows, classes)
        cast = ir.node("Cast", [value], {"to": int(end.dtype)})
        answer = add(cast, each.output, rows, classes)
    answer.type, answer.shape = end.type, end.shape
    return answer
