"""What a user would have otherwise: plain sessions, one graph with ``If`` nodes, PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph import GraphIndex
from skipc.compiler.units import Unit, find_units
from skipc.runtime import Bundle

if TYPE_CHECKING:
    from pathlib import Path

FLAGS = "skip"


def plain_session(path: Path, threads: int = 1) -> Any:
    """Returns a session with ONNX Runtime's defaults: all optimisations, its own weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class IfSession:
    """One session over the supernet in which every unit is an ``If`` on a flag."""

    def __init__(self, path: Path, units: tuple[Unit, ...]) -> None:
        self._session = plain_session(path)
        self._units = units

    def run(self, skip: tuple[str, ...], case: dict[str, np.ndarray[Any, Any]]) -> Any:
        """Returns the outputs with the units of these names skipped."""
        flags = np.array([unit.name in skip for unit in self._units])
        return self._session.run(None, {**case, FLAGS: flags})


def if_session(bundle: Path) -> IfSession:
    """Returns the session, writing ``if.onnx`` beside the bundle the first time."""
    opened = Bundle.open(bundle)
    path = bundle.with_suffix(".if.onnx")
    model = ir.load(opened.file(opened.manifest.configurations[0].graph))
    skipped = {name for entry in opened.manifest.configurations for name in entry.skip}
    units = tuple(unit for unit in find_units(model).units if unit.name in skipped)
    if not path.exists():
        _branch(model, units)
        ir.save(model, path, external_data=f"{path.name}.data")
    return IfSession(path, units)


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
