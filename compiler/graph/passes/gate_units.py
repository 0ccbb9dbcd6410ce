"""Lets gates decide, row by row, whether a unit's branch counts, and takes that out again.

The graph computes every branch: any device can run it, and what it answers is what the gates
decide. A target that can leave branches out makes that of it (``ungated``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph.adding import Added
from skipc.compiler.graph.operands import operand
from skipc.compiler.graph.passes import RewritePass
from skipc.runtime.bundle.gates import DECISIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.gating import Gating, PlacedGate

_BOOL, _COUNT = ir.TensorType(ir.DataType.BOOL), ir.TensorType(ir.DataType.INT64)


def gated(model: ir.Model, gating: Gating) -> ir.Model:
    """Returns a copy of ``model`` with gates, whose decisions are its last output.

    The copy shares its tensors with ``model``, which is not changed.
    """
    copy = model.clone()
    GateUnitsPass(gating)(copy)
    return copy


class GateUnitsPass(RewritePass):
    """Attaches gates: the branch of a unit that does not run is replaced by zeros."""

    def __init__(self, gating: Gating) -> None:
        super().__init__()
        self._gating = gating

    def rewrite(self, model: ir.Model) -> None:
        """Adds each gate in front of the addition that its unit ends in."""
        graph, gating = model.graph, self._gating
        values = {str(value.name): value for node in graph for value in node.outputs}
        values |= {str(value.name): value for value in graph.inputs}
        self._recurrent, self._score = gating.recurrent, gating.score[:, None]
        self._hidden: ir.Value | None = None
        self._runs: list[ir.Value] = []
        self._count: ir.Value | None = None
        for placed, threshold in zip(gating.gates, gating.thresholds, strict=True):
            join = values[placed.cut.node].producer()
            assert join is not None
            added = Added(graph, _prefix(placed.gate.name))
            runs = self._decide(added, values[placed.at], placed, threshold)
            branch = operand(join, placed.cut.operand)
            kept = _kept(added, runs, branch)
            graph.insert_before(join, added.nodes)
            join.replace_input_with(placed.cut.operand, kept)
        last = self._runs[-1].producer()
        assert last is not None
        node = ir.node("Concat", self._runs, {"axis": 1})
        graph.insert_after(last, node)
        decisions = node.outputs[0]
        assert last.outputs[0].shape is not None
        decisions.name, decisions.type = DECISIONS, _BOOL
        decisions.shape = ir.Shape([last.outputs[0].shape[0], len(self._runs)])
        graph.outputs.append(decisions)

    def _decide(
        self, added: Added, at: ir.Value, placed: PlacedGate, threshold: float
    ) -> ir.Value:
        """Returns for each row whether a unit runs, (N, 1)."""
        mean, gate = added.mean(at, placed.axis), placed.gate
        assert mean.shape is not None
        rows, (hidden, channels) = mean.shape[0], gate.weight.shape
        seen, weight = mean, gate.weight
        if self._hidden is not None:
            both = ir.node("Concat", [mean, self._hidden], {"axis": 1})
            seen = added.add(both, "seen", at.type, (rows, channels + hidden))
            weight = np.concatenate([weight, self._recurrent], 1)
        held = added.constant(np.ascontiguousarray(weight), "weight")
        bias = added.constant(gate.bias, "bias")
        gemm = ir.node("Gemm", [seen, held, bias], {"transB": 1})
        scores = added.add(gemm, "sum", at.type, (rows, hidden))
        self._hidden = added.add(ir.node("Tanh", [scores]), "hidden", at.type, (rows, hidden))
        column = added.constant(np.ascontiguousarray(self._score), "score.weight")
        score = added.add(
            ir.node("MatMul", [self._hidden, column]), "score", at.type, (rows, 1)
        )
        limit = added.constant(np.array([threshold], np.float32), "threshold")
        runs = added.add(ir.node("Greater", [score, limit]), "open", _BOOL, (rows, 1))
        before = len(self._runs)
        if before >= self._gating.cap:
            runs = self._with_room(added, runs, rows)
        self._runs.append(runs)
        if self._gating.cap < len(self._gating.gates):
            self._add_up(added, runs, rows)
        return runs

    def _with_room(self, added: Added, runs: ir.Value, rows: int | ir.SymbolicDim) -> ir.Value:
        """Returns for each row whether a unit runs, below the cap."""
        cap = added.constant(np.array([self._gating.cap]), "cap")
        # At a cap of 0 nothing was counted.
        count = self._count or added.constant(np.zeros((1, 1), np.int64), "none")
        assert count.shape is not None
        less = ir.node("Less", [count, cap])
        room = added.add(less, "room", _BOOL, tuple(count.shape))
        return added.add(ir.node("And", [runs, room]), "runs", _BOOL, (rows, 1))

    def _add_up(self, added: Added, runs: ir.Value, rows: int | ir.SymbolicDim) -> None:
        cast = ir.node("Cast", [runs], {"to": int(ir.DataType.INT64)})
        one = added.add(cast, "one", _COUNT, (rows, 1))
        if self._count is not None:
            total = ir.node("Add", [self._count, one])
            one = added.add(total, "count", _COUNT, (rows, 1))
        self._count = one


def _kept(added: Added, runs: ir.Value, branch: ir.Value) -> ir.Value:
    """Returns a branch with zeros in the rows for which it does not run."""
    assert branch.shape is not None
    assert branch.dtype is not None
    sizes = np.array([-1, *[1] * (len(branch.shape) - 1)])
    reshape = ir.node("Reshape", [runs, added.constant(sizes, "sizes")])
    rows = (branch.shape[0], *[1] * (len(branch.shape) - 1))
    mask = added.add(reshape, "rows", _BOOL, rows)
    zero = added.constant(np.zeros((), branch.dtype.numpy()), "zero")
    where = ir.node("Where", [mask, branch, zero])
    return added.add(where, "branch", branch.type, tuple(branch.shape))


def _prefix(unit: str) -> str:
    return f"{unit}.gate"


@dataclass(frozen=True, slots=True)
class Ungated:
    """A gated graph taken apart.

    Attributes:
        model: The graph in which every branch counts; its last outputs are the gates' scores.
        scores: Their names, in the order of the gates.
        thresholds: By gate; its unit runs where the score is above.
        cap: How many of the units run at most.
    """

    model: ir.Model
    scores: tuple[str, ...]
    thresholds: tuple[float, ...]
    cap: int


def ungated(model: ir.Model, units: Sequence[str]) -> Ungated:
    """Takes the gates of some units out of a graph that ``gated`` has returned.

    ``model`` is not changed.

    Raises:
        LookupError: There are no such gates in it.
    """
    copy = model.clone()
    graph = copy.graph
    values = {str(value.name): value for node in graph for value in node.outputs}
    held = graph.initializers
    (decisions,) = (value for value in graph.outputs if value.name == DECISIONS)
    graph.outputs.remove(decisions)
    scores, thresholds, cap = [], [], len(units)
    for unit in units:
        prefix = _prefix(unit)
        kept = values[f"{prefix}.branch"]
        where = kept.producer()
        assert where is not None
        kept.replace_all_uses_with(operand(where, 1))
        thresholds.append(_number(held[f"{prefix}.threshold"]))
        if f"{prefix}.cap" in held:
            cap = int(_number(held[f"{prefix}.cap"]))
        score = values[f"{prefix}.score"]
        graph.outputs.append(score)
        scores.append(str(score.name))
    common.RemoveUnusedNodesPass()(copy)
    return Ungated(copy, tuple(scores), tuple(thresholds), cap)


def _number(value: ir.Value) -> float:
    assert value.const_value is not None
    return float(value.const_value.numpy()[0])
