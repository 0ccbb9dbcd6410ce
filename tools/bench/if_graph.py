"""What a user would have otherwise: one graph in which every unit is an ``If`` on a flag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.axes.units import find_units
from skipc.compiler.graph.index import GraphIndex
from skipc.runtime import Bundle
from skipc.tools.trtbench.measuring import plain_session

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from skipc.compiler.axes.units import Unit
    from skipc.runtime.backends import Arrays

_FLAGS = "skip"
"""The graph's further input: per unit whether it is skipped, bool (units,)."""


class IfSession:
    """One session that runs every configuration of a bundle whose first one holds all others.

    Args:
        bundle: The bundle; ``.if.onnx`` is written beside it the first time.
    """

    def __init__(self, bundle: Path) -> None:
        opened = Bundle.open(bundle)
        manifest = opened.manifest
        skipped = {name for entry in manifest.configurations for name in entry.taken("skip")}
        model = ir.load(opened.file(manifest.graphs[0].file))
        units = tuple(unit for unit in find_units(model).units if unit.name in skipped)
        self._units = [unit.name for unit in units]
        path = bundle.with_suffix(".if.onnx")
        if not path.exists():
            _branch(model, units)
            ir.save(model, path, external_data=f"{path.name}.data")
        self._run = plain_session(path)

    def run(self, skip: Iterable[str], case: Arrays) -> dict[str, Any]:
        """Returns the outputs with the units of these names skipped."""
        flags = np.array([name in set(skip) for name in self._units], np.bool_)
        return self._run({**case, _FLAGS: flags})


def _branch(model: ir.Model, units: tuple[Unit, ...]) -> None:
    graph = model.graph
    flags = ir.val(_FLAGS, dtype=ir.DataType.BOOL, shape=ir.Shape([len(units)]))
    graph.inputs.append(flags)
    for number, unit in enumerate(units):
        index = GraphIndex(graph)
        join = next(n for n in index.nodes if n.outputs[0].name == unit.join)
        branch = index.only_for(unit.cuts)
        shortcut = join.inputs[unit.shortcut]
        assert shortcut is not None
        anchor = ir.node("Constant", [], {"value": ir.tensor(np.array(number, np.int64))})
        flag = ir.node("Gather", [flags, anchor.outputs[0]], {"axis": 0})
        kept = ir.node("Identity", [shortcut])
        kept.outputs[0].name = f"{unit.join}.kept"
        kept.outputs[0].shape, kept.outputs[0].type = shortcut.shape, shortcut.type
        then = ir.Graph([], [kept.outputs[0]], nodes=[kept], name=f"{unit.join}.then")
        chosen = ir.node("If", [flag.outputs[0]], {"then_branch": then})
        for node in (anchor, flag):
            graph.insert_before(join, node)
        joined = join.outputs[0]
        name = joined.name
        joined.replace_all_uses_with(chosen.outputs[0], replace_graph_outputs=True)
        for node in (*branch, join):
            graph.remove(node)
        joined.name = f"{name}.joined"
        otherwise = ir.Graph([], [joined], nodes=[*branch, join], name=f"{name}.else")
        chosen.attributes.add(ir.AttrGraph("else_branch", otherwise))
        chosen.outputs[0].name = name
        chosen.outputs[0].shape, chosen.outputs[0].type = joined.shape, joined.type
        graph.insert_after(flag, chosen)
    common.RemoveUnusedNodesPass()(model)
