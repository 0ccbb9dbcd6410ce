"""Cutting a supernet graph into the pieces that configurations share.

A *cut* is a value that is kept while configurations are evaluated: the join of a unit, the
shortcut that takes its place, what a re-estimated norm reads, an output, and whatever two
pieces would otherwise both compute. A *segment* is the nodes between a cut and those before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.graph.index import node_inputs

if TYPE_CHECKING:
    import onnx_ir as ir

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.graph.batch_norms import Norm


@dataclass(frozen=True, slots=True)
class Segment:
    """What computes one cut.

    Attributes:
        output: The cut's name.
        inputs: The cuts and network inputs that it reads.
        nodes: Its nodes, in order.
        norms: The re-estimated norms among them, each with the cut that it reads.
    """

    output: str
    inputs: tuple[str, ...]
    nodes: tuple[ir.Node, ...]
    norms: tuple[tuple[Norm, str], ...]


@dataclass(frozen=True, slots=True)
class Join:
    """Where a unit can be left out: ``cut`` then is ``shortcut``."""

    unit: int
    cut: str
    shortcut: str


@dataclass(frozen=True, slots=True)
class Segments:
    """A supernet graph in pieces.

    Attributes:
        segments: The segments by the cut that they compute.
        joins: The joins by their cut.
        outputs: The network's outputs, all of them cuts or inputs.
    """

    segments: dict[str, Segment]
    joins: dict[str, Join]
    outputs: tuple[str, ...]


def cut_graph(model: ir.Model, units: tuple[Unit, ...], reestimated: bool) -> Segments:
    """Returns the pieces of ``model``, which is not changed.

    Args:
        model: The supernet's graph, topologically sorted.
        units: Its units; ``Join.unit`` counts them.
        reestimated: Whether the statistics of norms come from data.
    """
    graph = model.graph
    by_join = {unit.join: (index, unit) for index, unit in enumerate(units)}
    norms = {norm.output: norm for norm in find_norms(model)} if reestimated else {}
    cuts: set[ir.Value] = {value for value in graph.outputs if not _given(value)}
    joins: dict[str, Join] = {}
    for node in graph:
        name = _name(node.outputs[0])
        if name in by_join:
            index, unit = by_join[name]
            shortcut = node.inputs[unit.shortcut]
            assert shortcut is not None
            joins[name] = Join(index, name, _name(shortcut))
            cuts |= {node.outputs[0]} | ({shortcut} if not _given(shortcut) else set())
        if name in norms:
            read = node.inputs[0]
            assert read is not None
            cuts |= set() if _given(read) else {read}
    constant = _constants(graph)
    _cut_shared(graph, cuts, constant)
    segments = {}
    for cut in cuts:
        if cut not in constant:
            segments[_name(cut)] = _segment(cut, cuts, norms, graph)
    return Segments(segments, joins, tuple(_name(value) for value in graph.outputs))


def _cut_shared(graph: ir.Graph, cuts: set[ir.Value], constant: set[ir.Value]) -> None:
    """Adds the values that more than one segment would compute."""
    targets: dict[ir.Value, set[ir.Value]] = {}
    for node in reversed(graph):
        for output in node.outputs:
            found = targets.get(output, set())
            if output not in cuts and output not in constant and len(found) > 1:
                cuts.add(output)
        wanted: set[ir.Value] = set()
        for output in node.outputs:
            wanted |= {output} if output in cuts else targets.get(output, set())
        for value in node_inputs(node):
            targets.setdefault(value, set()).update(wanted)


def _segment(
    cut: ir.Value, cuts: set[ir.Value], norms: dict[str, Norm], graph: ir.Graph
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
    nodes = tuple(node for node in graph if node in inside)
    found = tuple(
        (norms[_name(node.outputs[0])], _name(node.inputs[0]))
        for node in nodes
        if _name(node.outputs[0]) in norms
    )
    return Segment(_name(cut), tuple(sorted(inputs)), nodes, found)


def _constants(graph: ir.Graph) -> set[ir.Value]:
    """Returns the values that depend on no input."""
    constant: set[ir.Value] = set()
    for node in graph:
        values = list(node_inputs(node))
        if all(v in constant or v.is_initializer() for v in values):
            constant |= set(node.outputs)
    return constant


def _given(value: ir.Value) -> bool:
    return value.producer() is None


def _name(value: ir.Value | None) -> str:
    assert value is not None
    return str(value.name)
