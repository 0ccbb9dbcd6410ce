"""Cuts a graph: operands that are zero go, and so does what only they used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph.passes.drop_repeated_activations import DropRepeatedActivationsPass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skipc.compiler.cut import Cut


def without(model: ir.Model, cuts: Iterable[Cut]) -> ir.Model:
    """Returns a copy of ``model`` in which the cut operands are gone.

    The copy shares its tensors with ``model``, which is not changed. Input and output names
    stay; no node or initializer that only the cut operands used is left.
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


class CutOperandsPass(ir.passes.InPlacePass):
    """Replaces each addition with a cut operand by its other operand.

    Dead nodes are left for ``RemoveUnusedNodesPass``. A graph output keeps its name.

    Args:
        cuts: The cuts, found in this graph or in one it was cloned from.
    """

    def __init__(self, cuts: Iterable[Cut]) -> None:
        super().__init__()
        self._operands = dict(cuts)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewires the additions."""
        # Network order: what stays may itself be the result of an addition that was cut.
        for node in list(model.graph):
            operand = self._operands.get(str(node.outputs[0].name))
            if operand is None or node.op_type != "Add":
                continue
            kept = node.inputs[1 - operand]
            assert kept is not None
            joined = node.outputs[0]
            if joined.is_graph_output():
                _keep_output(node, kept)
            else:
                joined.replace_all_uses_with(kept)
        return ir.passes.PassResult(model, modified=bool(self._operands))


def _keep_output(join: ir.Node, kept: ir.Value) -> None:
    """Lets a copy of ``kept`` take the place of the join's output, name included."""
    joined = join.outputs[0]
    name = joined.name
    copy = ir.node("Identity", [kept])
    copy.outputs[0].shape = joined.shape
    copy.outputs[0].type = joined.type
    graph = join.graph
    assert graph is not None
    graph.insert_before(join, copy)
    joined.name = f"{name}.removed"
    copy.outputs[0].name = name
    joined.replace_all_uses_with(copy.outputs[0], replace_graph_outputs=True)
