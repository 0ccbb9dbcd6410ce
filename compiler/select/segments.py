"""Cutting a supernet graph into the parts that configurations share, each a session.

A *cut* is a value that is kept while configurations are evaluated: the join of a unit, the
shortcut that takes its place, what a re-estimated norm reads, an output, and whatever two
pieces would otherwise both compute. A *segment* is the nodes between a cut and those before; a
*piece* is a segment as a session. Channels that are left out are multiplied by zero where they
are read: then all widths share the pieces, and whatever comes before the first difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from skipc.compiler.errors import SupernetError
from skipc.compiler.extras import require
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.graph.costs import shape_at_batch_one
from skipc.compiler.graph.index import node_inputs
from skipc.compiler.graph.operands import MEAN, VARIANCE
from skipc.runtime.errors import reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.axes.width_groups import Group
    from skipc.compiler.graph.batch_norms import Norm


@dataclass(frozen=True, slots=True)
class Segment:
    """What computes one cut.

    Attributes:
        output: The cut's name.
        inputs: The cuts and network inputs that it reads.
        norms: The re-estimated norms in it, each with the cut that it reads.
        read: The tensors in it whose channels may be left out, each with its group's number.
        groups: The numbers of the groups that the segment depends on: by those tensors, and by
            norms whose statistics are those of the channels that stay.
        concatenated: The tensors in it that layers read, and of which dense layers may be
            absent.
    """

    output: str
    inputs: tuple[str, ...]
    norms: tuple[tuple[Norm, str], ...]
    read: tuple[tuple[str, int], ...] = ()
    groups: tuple[int, ...] = ()
    concatenated: tuple[str, ...] = ()

    @property
    def masked(self) -> tuple[str, ...]:
        """The tensors in it of which channels may be left out."""
        return (*(name for name, _ in self.read), *self.concatenated)


@dataclass(frozen=True, slots=True)
class Join:
    """Where a unit, or a further part of it, is left out: the cut then is ``shortcut``."""

    unit: int
    shortcut: str


@dataclass(frozen=True, slots=True)
class Segments:
    """A supernet graph in pieces.

    Attributes:
        segments: The segments by the cut that they compute.
        joins: The joins by their cut.
        outputs: The network's outputs, all of them cuts or inputs.
        constants: Shortcuts that nothing computes, a row of each or as many as there are:
            parameters, and zeros in the place of a unit's further parts or of a dense layer's
            features.
        units: How many units there are.
        norm_groups: By its output, the number of the group that a norm's channels are.
    """

    segments: dict[str, Segment]
    joins: dict[str, Join]
    outputs: tuple[str, ...]
    constants: dict[str, NDArray[Any]]
    units: int
    norm_groups: Mapping[str, int]


def cut_graph(
    model: ir.Model,
    units: tuple[Unit, ...],
    reestimated: bool,
    groups: tuple[Group, ...] = (),
    concatenated: AbstractSet[str] = frozenset(),
) -> Segments:
    """Returns the pieces of ``model``, which is not changed.

    Args:
        model: The supernet's graph, topologically sorted.
        units: Its units; ``Join.unit`` counts them.
        reestimated: Whether the statistics of norms come from data.
        groups: The groups of channels that may be fewer.
        concatenated: The tensors that layers read of which dense layers may be absent.
    """
    graph = model.graph
    by_join = {u.join: (index, u) for index, u in enumerate(units) if not u.features}
    norms = {norm.output: norm for norm in find_norms(model)} if reestimated else {}
    cuts: set[ir.Value] = {value for value in graph.outputs if not _given(value)}
    joins: dict[str, Join] = {}
    parts: dict[str, list[tuple[int, int]]] = {}
    for index, unit in enumerate(units):
        for part in unit.further:
            parts.setdefault(part.node, []).append((index, part.operand))
    constants: dict[str, NDArray[Any]] = {}
    for node in graph:
        name = _name(node.outputs[0])
        if name in by_join:
            index, unit = by_join[name]
            shortcut = node.inputs[unit.shortcut]
            assert shortcut is not None
            joins[name] = Join(index, _name(shortcut))
            cuts |= {node.outputs[0]} | ({shortcut} if not _given(shortcut) else set())
            if shortcut.const_value is not None:
                constants[_name(shortcut)] = shortcut.const_value.numpy()
        for index, operand in parts.get(name, ()):
            beside = node.inputs[operand]
            assert beside is not None
            zero, shape, dtype = (
                f"{_name(beside)}.zero",
                shape_at_batch_one(beside),
                beside.dtype,
            )
            assert shape is not None
            assert dtype is not None
            joins[_name(beside)] = Join(index, zero)
            cuts.add(beside)
            constants[zero] = np.zeros((1, *shape[1:]), dtype.numpy())
        if name in norms:
            read = node.inputs[0]
            assert read is not None
            cuts |= set() if _given(read) else {read}
    _cut_shared(graph, cuts)
    segments = {name: Segment(name, (), ()) for name in constants}
    groups_read = {c.value: n for n, group in enumerate(groups) for c in group.read}
    of_norms = {norm: n for n, group in enumerate(groups) for norm in group.norms}
    of_norms = {norm: n for norm, n in of_norms.items() if norm in norms}
    segments |= {
        _name(cut): _segment(cut, cuts, norms, graph, groups_read, of_norms, concatenated)
        for cut in cuts
    }
    outputs = tuple(_name(value) for value in graph.outputs)
    return Segments(segments, joins, outputs, constants, len(units), of_norms)


def _cut_shared(graph: ir.Graph, cuts: set[ir.Value]) -> None:
    """Adds the values that more than one segment would compute, but for constants."""
    reached = {value for value in graph.inputs if not value.is_initializer()}
    for node in graph:
        if not reached.isdisjoint(node_inputs(node)):
            reached.update(node.outputs)
    targets: dict[ir.Value, set[ir.Value]] = {}
    for node in reversed(graph):
        for output in node.outputs:
            found = targets.get(output, set())
            if output in reached and output not in cuts and len(found) > 1:
                cuts.add(output)
        wanted: set[ir.Value] = set()
        for output in node.outputs:
            wanted |= {output} if output in cuts else targets.get(output, set())
        for value in node_inputs(node):
            targets.setdefault(value, set()).update(wanted)


def _segment(
    cut: ir.Value,
    cuts: set[ir.Value],
    norms: Mapping[str, Norm],
    graph: ir.Graph,
    groups_read: Mapping[str, int],
    norm_groups: Mapping[str, int],
    concatenated: AbstractSet[str],
) -> Segment:
    inside: set[ir.Node] = set()
    inputs: dict[str, None] = {}
    producer = cut.producer()
    pending = [producer] if producer is not None else []
    while pending:
        node = pending.pop()
        if node in inside:
            continue
        inside.add(node)
        for value in node_inputs(node):
            before = value.producer()
            if value in cuts or (before is None and value.is_graph_input()):
                if not value.is_initializer():
                    inputs[_name(value)] = None
            elif before is not None:
                pending.append(before)
    found = tuple(
        (norms[_name(node.outputs[0])], _name(node.inputs[0]))
        for node in graph
        if node in inside and _name(node.outputs[0]) in norms
    )
    names = [_name(value) for node in graph if node in inside for value in node.outputs]
    read = tuple((name, groups_read[name]) for name in names if name in groups_read)
    groups = {number for _, number in read} | {
        norm_groups[name] for name in names if name in norm_groups
    }
    return Segment(
        *(_name(cut), tuple(sorted(inputs)), found, read, tuple(sorted(groups))),
        tuple(name for name in names if name in concatenated),
    )


def _given(value: ir.Value) -> bool:
    return value.producer() is None


def _name(value: ir.Value | None) -> str:
    assert value is not None
    return str(value.name)


class Piece:
    """One segment of a model, ready to run.

    The statistics of its re-estimated norms are inputs, ``<norm output>.mean`` and
    ``.variance``: one session serves all configurations.

    Args:
        model: The supernet's graph.
        segment: The segment.
        threads: Threads of ONNX Runtime.
        masked: Whether channels are left out: what tensors are multiplied by are inputs,
            ``<tensor>.kept``.
    """

    def __init__(
        self, model: ir.Model, segment: Segment, threads: int, masked: bool = False
    ) -> None:
        ort = require("onnxruntime", "compiler")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # There are many sessions; threads that wait by spinning would starve the others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        data = _serialized(model, segment, masked)
        try:
            self._session = ort.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's exceptions share no base class below Exception.
        except Exception as cause:
            raise SupernetError(
                f"ONNX Runtime {ort.__version__} cannot load the part of the network that"
                f" computes {segment.output!r}: {reason_of(cause)}"
            ) from cause
        self._inputs = {value.name for value in self._session.get_inputs()}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Returns the segment's output."""
        feed = {name: array for name, array in inputs.items() if name in self._inputs}
        output: NDArray[Any] = self._session.run(None, feed)[0]
        return output


def _serialized(model: ir.Model, segment: Segment, masked: bool) -> bytes:
    """Returns the segment as a model of its own."""
    graph = ir.convenience.extract(model.graph, segment.inputs, [segment.output])
    reestimated = {norm.output for norm, _ in segment.norms}
    for node in graph:
        name = _name(node.outputs[0])
        for operand, kind in ((MEAN, "mean"), (VARIANCE, "variance")):
            if name in reestimated:
                old = node.inputs[operand]
                assert old is not None
                given = ir.val(f"{name}.{kind}", old.dtype)
                graph.inputs.append(given)
                node.replace_input_with(operand, given)
    for name in segment.masked if masked else ():
        _mask(graph, name)
    for value in graph.initializers.values():
        # In memory: a model made of bytes has no folder to find external weights in.
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy())
    functions = tuple(model.functions.values())
    part = ir.Model(graph, ir_version=model.ir_version, functions=functions)
    data: bytes = ir.to_proto(part).SerializeToString()
    return data


def _mask(graph: ir.Graph, name: str) -> None:
    """Lets all that reads a tensor read it times an input."""
    node = next(n for n in graph if any(_name(output) == name for output in n.outputs))
    whole = next(output for output in node.outputs if _name(output) == name)
    kept = ir.val(f"{name}.kept", whole.dtype)
    graph.inputs.append(kept)
    product = ir.node("Mul", [whole, kept])
    result = product.outputs[0]
    result.type, result.shape = whole.type, whole.shape
    whole.replace_all_uses_with(result, replace_graph_outputs=True)
    product.replace_input_with(0, whole)
    whole.name, result.name = f"{name}.whole", name
    graph.insert_after(node, product)
