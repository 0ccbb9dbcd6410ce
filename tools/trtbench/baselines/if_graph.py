"""One graph for a whole family: every unit an ``If`` on a flag."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.axes.units import find_units
from skipc.compiler.graph.index import GraphIndex
from skipc.tools.trtbench.baselines.baseline import BaselineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.axes.units import Unit
    from skipc.runtime import Bundle
    from skipc.runtime.bundle.manifest import ConfigurationEntry

FLAGS = "skip"
"""The graph's further input: per unit whether it is skipped, bool (units,)."""


def branching_units(bundle: Bundle) -> tuple[ir.Model, tuple[Unit, ...]]:
    """Returns the graph of the largest configuration, and the units to branch on in it.

    Raises:
        BaselineUnavailableError: No one graph stands for all configurations.
    """
    largest = _largest(bundle)
    norm = bundle.manifest.provenance.norm
    if norm != "shared":
        raise BaselineUnavailableError(
            f"norms are {norm!r}: each configuration has its own, which one graph cannot hold."
        )
    model = ir.load(bundle.file(largest.graph))
    entries = bundle.manifest.configurations
    skipped = {name for entry in entries for name in entry.skip} - set(largest.skip)
    units = tuple(unit for unit in find_units(model).units if unit.name in skipped)
    missing = sorted(skipped - {unit.name for unit in units})
    if missing:
        raise BaselineUnavailableError(
            f"the unit {missing[0]!r} is not found in the graph of {largest.name!r}."
        )
    return model, units


def write_if_graph(model: ir.Model, units: tuple[Unit, ...], path: Path) -> None:
    """Writes ``model``, which is changed, with a branch for each of ``units``.

    Args:
        model: The graph, as ``branching_units`` returned it.
        units: Its units to branch on; their order is that of ``FLAGS``.
        path: Where to; the weights go beside it, with ``.data``.
    """
    _branch(model, units)
    ir.save(model, path, external_data=f"{path.name}.data")


def flags_of(units: tuple[Unit, ...], skip: Sequence[str]) -> NDArray[np.bool_]:
    """Returns the value of ``FLAGS`` with which the units in ``skip`` are skipped."""
    return np.array([unit.name in skip for unit in units], np.bool_)


def _largest(bundle: Bundle) -> ConfigurationEntry:
    """Returns the configuration that all others are part of."""
    entries = bundle.manifest.configurations
    for entry in entries:
        if all(set(entry.skip) <= set(other.skip) for other in entries):
            return entry
    raise BaselineUnavailableError(
        "no configuration of the bundle holds all others, and the full network is not in it."
    )


def _branch(model: ir.Model, units: tuple[Unit, ...]) -> None:
    graph = model.graph
    flags = ir.val(FLAGS, dtype=ir.DataType.BOOL, shape=ir.Shape([len(units)]))
    graph.inputs.append(flags)
    for number, unit in enumerate(units):
        index = GraphIndex(graph)
        join = next(n for n in index.nodes if n.outputs[0].name == unit.join)
        branch = index.members(index.only_for(join, 1 - unit.shortcut))
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
