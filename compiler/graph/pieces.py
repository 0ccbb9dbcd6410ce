"""The pieces of a graph that answers several times: what each answer needs of its own.

A piece is no prefix of the nodes: heads and the stream interleave. What is computed of
constants alone belongs to every piece that reads it, so that nothing but data is handed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.graph.index import node_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a graph between named tensors.

    Attributes:
        nodes: Its nodes, in order.
        inputs: The graph inputs that it reads, then what earlier pieces compute for it.
        answers: The graph outputs that it computes.
        handed_over: What it computes for later pieces, in order.
    """

    nodes: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    answers: tuple[ir.Value, ...]
    handed_over: tuple[ir.Value, ...]

    @property
    def outputs(self) -> tuple[ir.Value, ...]:
        """Everything that it gives, each once."""
        return tuple(dict.fromkeys((*self.answers, *self.handed_over)))


def pieces_of(graph: ir.Graph, answers: Sequence[Iterable[str]]) -> tuple[Piece, ...]:
    """Returns the pieces of a graph, one for each of its answers.

    Args:
        graph: A topologically sorted graph.
        answers: The outputs of each answer, by name, in network order.
    """
    outputs = {str(value.name): value for value in graph.outputs}
    constant = constant_values(graph)
    taken: set[ir.Node] = set()
    parts: list[tuple[ir.Node, ...]] = []
    for names in answers:
        found = _needed([outputs[name] for name in names], taken)
        parts.append(tuple(node for node in graph if node in found))
        taken |= {node for node in found if not constant.issuperset(node.outputs)}
    reads = [_reads(part, constant) for part in parts]
    made = [{value for node in part for value in node.outputs} for part in parts]
    pieces = []
    for number, (part, names) in enumerate(zip(parts, answers, strict=True)):
        later = {value for read in reads[number + 1 :] for value in read}
        handed = [v for node in part for v in node.outputs if v in later - constant]
        pieces.append(
            Piece(
                part,
                tuple(value for value in reads[number] if value not in made[number]),
                tuple(outputs[name] for name in names),
                tuple(handed),
            )
        )
    return tuple(pieces)


def extracted(model: ir.Model, inputs: Iterable[str], outputs: Iterable[str]) -> ir.Model:
    """Returns what a model computes between named tensors, as a model; tensors are shared."""
    return ir.Model(
        ir.convenience.extract(model.graph, list(inputs), list(outputs)),
        ir_version=model.ir_version,
        functions=[function.clone() for function in model.functions.values()],
    )


def constant_values(graph: ir.Graph) -> set[ir.Value]:
    """Returns what nodes compute that depends on no input."""
    constant: set[ir.Value] = set()
    for node in graph:
        if all(value in constant or value.is_initializer() for value in node_inputs(node)):
            constant |= set(node.outputs)
    return constant


def _needed(wanted: Iterable[ir.Value], taken: set[ir.Node]) -> set[ir.Node]:
    """Returns the nodes that compute some values, without those that are taken."""
    found: set[ir.Node] = set()
    pending = [value.producer() for value in wanted]
    while pending:
        node = pending.pop()
        if node is not None and node not in found and node not in taken:
            found.add(node)
            pending += [value.producer() for value in node_inputs(node)]
    return found


def _reads(nodes: Iterable[ir.Node], constant: set[ir.Value]) -> dict[ir.Value, None]:
    """Returns the data that nodes read, in order: no weights, nothing constant."""
    return {
        value: None
        for node in nodes
        for value in node_inputs(node)
        if value not in constant and not value.is_initializer()
    }
