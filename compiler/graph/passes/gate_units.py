"""Lets gates decide, row by row, what of a unit's branch counts, and takes that out again.

The graph computes every branch: any device can run it, and what it answers is what the gates
decide. A target that can leave branches out makes that of it (``ungated``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.gating import mask_shape
from skipc.compiler.graph.adding import Added
from skipc.compiler.graph.operands import operand
from skipc.compiler.graph.passes import RewritePass
from skipc.runtime.bundle.gates import DECISIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

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
    """Attaches gates: the branch of a unit that does not run is replaced by zeros.

    So are those channels within it whose part does not run.
    """

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
        for placed, thresholds in zip(gating.gates, gating.thresholds, strict=True):
            join = values[placed.cut.node].producer()
            assert join is not None
            added = Added(graph, _prefix(placed.gate.name))
            runs = self._decide(added, values[placed.at], placed, thresholds)
            if placed.inner is not None:
                inner = values[placed.inner.value]
                ((reader, place),) = inner.uses()
                kept = _kept_channels(added, self._runs[-1], inner, placed)
                graph.insert_before(reader, added.nodes)
                reader.replace_input_with(place, kept)
                added.nodes.clear()
            branch = operand(join, placed.cut.operand)
            kept = _kept(added, runs, branch, "branch")
            graph.insert_before(join, added.nodes)
            join.replace_input_with(placed.cut.operand, kept)
        # What reads a branch's channels may stand before what the gates in front have read.
        graph.sort()
        last = self._runs[-1].producer()
        assert last is not None
        node = ir.node("Concat", self._runs, {"axis": 1})
        graph.insert_after(last, node)
        decisions = node.outputs[0]
        assert last.outputs[0].shape is not None
        decisions.name, decisions.type = DECISIONS, _BOOL
        decisions.shape = ir.Shape([last.outputs[0].shape[0], len(gating.decided)])
        graph.outputs.append(decisions)

    def _decide(
        self, added: Added, at: ir.Value, placed: PlacedGate, thresholds: tuple[float, ...]
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
        limits = added.constant(np.array(thresholds, np.float32), "thresholds")
        opened = ir.node("Greater", [score, limits])
        runs = added.add(opened, "open", _BOOL, (rows, len(thresholds)))
        before = len(self._runs)
        if before >= self._gating.cap:
            runs = self._with_room(added, runs, rows)
        self._runs.append(runs)
        if len(thresholds) > 1:
            first = added.constant(np.array([0]), "first")
            taken = ir.node("Gather", [runs, first], {"axis": 1})
            runs = added.add(taken, "unit", _BOOL, (rows, 1))
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
        assert runs.shape is not None
        both = ir.node("And", [runs, room])
        return added.add(both, "runs", _BOOL, (rows, runs.shape[1]))

    def _add_up(self, added: Added, runs: ir.Value, rows: int | ir.SymbolicDim) -> None:
        cast = ir.node("Cast", [runs], {"to": int(ir.DataType.INT64)})
        one = added.add(cast, "one", _COUNT, (rows, 1))
        if self._count is not None:
            total = ir.node("Add", [self._count, one])
            one = added.add(total, "count", _COUNT, (rows, 1))
        self._count = one


def _kept_channels(
    added: Added, runs: ir.Value, value: ir.Value, placed: PlacedGate
) -> ir.Value:
    """Returns what a branch's last layer reads with zeros in the parts that do not run."""
    assert placed.inner is not None
    assert runs.shape is not None
    channels = (len(placed.gate.parts),)
    part = added.constant(placed.gate.parts, "parts")
    node = ir.node("Gather", [runs, part], {"axis": 1})
    stays = added.add(node, "channels", _BOOL, (runs.shape[0], *channels))
    return _kept(added, stays, value, "inner", channels, placed.inner.axis)


def _kept(
    added: Added,
    runs: ir.Value,
    value: ir.Value,
    name: str,
    channels: tuple[int, ...] = (),
    axis: int = 0,
) -> ir.Value:
    """Returns a tensor with zeros in rows, or in channels of rows, that do not run."""
    assert value.shape is not None
    assert value.dtype is not None
    sizes = mask_shape((-1, *channels), len(value.shape), axis)
    reshape = ir.node("Reshape", [runs, added.constant(np.array(sizes), f"{name}.sizes")])
    mask = added.add(reshape, f"{name}.rows", _BOOL, (value.shape[0], *sizes[1:]))
    zero = added.constant(np.zeros((), value.dtype.numpy()), f"{name}.zero")
    where = ir.node("Where", [mask, value, zero])
    return added.add(where, name, value.type, tuple(value.shape))


def _prefix(unit: str) -> str:
    return f"{unit}.gate"


class UngatedPart(NamedTuple):
    """Channels that a gate decided about.

    Attributes:
        value: The tensor that they lie in, by name.
        parts: By channel the number of its part.
    """

    value: str
    parts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ungated:
    """A gated graph taken apart.

    Attributes:
        model: The graph in which every branch counts; its last outputs are the gates' scores.
        scores: Their names, in the order of the gates.
        thresholds: By gate, those of its parts; they run where the score is above.
        cap: How many of the units run at most.
        inner: By unit the channels within its branch that were decided about.
    """

    model: ir.Model
    scores: tuple[str, ...]
    thresholds: tuple[tuple[float, ...], ...]
    cap: int
    inner: Mapping[str, UngatedPart]


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
    inner: dict[str, UngatedPart] = {}
    for unit in units:
        prefix = _prefix(unit)
        _taken_out(values[f"{prefix}.branch"])
        thresholds.append(tuple(_numbers(held[f"{prefix}.thresholds"])))
        if f"{prefix}.inner" in values:
            value = _taken_out(values[f"{prefix}.inner"])
            parts = held[f"{prefix}.parts"].const_value
            assert parts is not None
            inner[unit] = UngatedPart(str(value.name), parts.numpy())
        if f"{prefix}.cap" in held:
            cap = int(_numbers(held[f"{prefix}.cap"])[0])
        score = values[f"{prefix}.score"]
        graph.outputs.append(score)
        scores.append(str(score.name))
    common.RemoveUnusedNodesPass()(copy)
    return Ungated(copy, tuple(scores), tuple(thresholds), cap, inner)


def _taken_out(kept: ir.Value) -> ir.Value:
    """Lets a tensor count as it was before a gate; returns it."""
    where = kept.producer()
    assert where is not None
    value = operand(where, 1)
    kept.replace_all_uses_with(value)
    return value


def _numbers(value: ir.Value) -> list[float]:
    assert value.const_value is not None
    found: list[float] = value.const_value.numpy().tolist()
    return found
