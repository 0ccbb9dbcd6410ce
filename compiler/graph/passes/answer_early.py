"""Lets a graph answer before its end: heads are attached, what no answer needs goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph.adding import Added

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.network import Exit, LinearHead


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
        for each in self._exits:
            answer = values[each.at]
            if each.head is None:
                answer.name = each.output
            else:
                answer = _attached(graph, answer, each, each.head, end)
            graph.outputs.append(answer)
        if self._ends:
            graph.outputs.append(end)
        return ir.passes.PassResult(model, modified=True)


def _attached(
    graph: ir.Graph, at: ir.Value, each: Exit, head: LinearHead, end: ir.Value
) -> ir.Value:
    """Returns the answer of a head that is added to the graph."""
    assert at.shape is not None
    assert at.dtype is not None
    last, rows, classes = at.producer(), at.shape[0], len(head.bias)
    assert last is not None
    added = Added(graph, f"{each.name}.head")
    value = added.mean(at, head.axis)
    weights = [
        added.constant(array.astype(at.dtype.numpy()), what)
        for array, what in ((head.weight, "weight"), (head.bias, "bias"))
    ]
    gemm = ir.node("Gemm", [value, *weights], {"transB": 1})
    answer = added.add(gemm, "scores", at.type, (rows, classes))
    if end.dtype is not at.dtype:  # a half-precision network with float32 outputs
        assert end.dtype is not None
        cast = ir.node("Cast", [answer], {"to": int(end.dtype)})
        answer = added.add(cast, "answer", end.type, (rows, classes))
    graph.insert_after(last, added.nodes)
    answer.name, answer.type, answer.shape = each.output, end.type, end.shape
    return answer
