"""Removes units: their joins become their shortcuts, and what only they used goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from skipc.compiler.axes.units import Unit


class SkipUnitsPass(ir.passes.InPlacePass):
    """Replaces the join of each unit by its shortcut operand.

    Dead nodes are left for ``RemoveUnusedNodesPass``. A graph output keeps its name.

    Args:
        units: The units to skip, found in this graph or in one it was cloned from.
    """

    def __init__(self, units: tuple[Unit, ...]) -> None:
        super().__init__()
        self._units = units

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewires the joins."""
        by_join = {unit.join: unit for unit in self._units}
        # Network order: a shortcut may itself be the join of a skipped unit before it.
        for node in list(model.graph):
            unit = by_join.get(str(node.outputs[0].name)) if len(node.outputs) == 1 else None
            if unit is None or node.op_type != "Add":
                continue
            shortcut = node.inputs[unit.shortcut]
            assert shortcut is not None
            joined = node.outputs[0]
            if joined.is_graph_output():
                _keep_output(node, shortcut)
            else:
                joined.replace_all_uses_with(shortcut)
        return ir.passes.PassResult(model, modified=bool(self._units))


def _keep_output(join: ir.Node, shortcut: ir.Value) -> None:
    """Lets a copy of ``shortcut`` take the place of the join's output, name included."""
    joined = join.outputs[0]
    name = joined.name
    copy = ir.node("Identity", [shortcut])
    copy.outputs[0].shape = joined.shape
    copy.outputs[0].type = joined.type
    graph = join.graph
    assert graph is not None
    graph.insert_before(join, copy)
    joined.name = f"{name}.removed"
    copy.outputs[0].name = name
    joined.replace_all_uses_with(copy.outputs[0], replace_graph_outputs=True)
