"""Puts a graph before another one: what it gives is what the other one takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.graph.passes import RewritePass

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "prologue"


def handed_name(name: str) -> str:
    """Returns what an input of a graph is called once something before it computes it."""
    return f"{name}.{_PREFIX}"


class PutBeforePass(RewritePass):
    """Puts a graph before another one, which takes its inputs instead.

    Args:
        before: The graph, in the other one's opset; it is not changed.
        fed: By the other one's input, the output that it becomes.
        handed_on: Whether what is between them is an output, too: the first ones.
    """

    def __init__(self, before: ir.Model, fed: Mapping[str, str], handed_on: bool) -> None:
        super().__init__()
        self._before, self._fed, self._handed_on = before, fed, handed_on

    def rewrite(self, model: ir.Model) -> None:
        """Moves a copy of the one graph into the other."""
        graph, front = model.graph, self._before.clone()
        given = {str(value.name): value for value in front.graph.outputs}
        front.graph.outputs.clear()
        _name_apart(front.graph)
        nodes = list(front.graph)
        front.graph.remove(nodes)
        graph.insert_before(graph[0], nodes)
        for held in list(front.graph.initializers.values()):
            front.graph.initializers.pop(str(held.name))
            held.name = f"{_PREFIX}.{held.name}"
            graph.register_initializer(held)
        inputs = list(front.graph.inputs)
        front.graph.inputs.clear()
        first = next(node for node in graph if node not in set(nodes))
        taken = {str(value.name): value for value in graph.inputs}
        for name, output in self._fed.items():
            if name not in taken and not self._handed_on:
                continue
            node = ir.node("Identity", [given[output]])
            made = node.outputs[0]
            made.type, made.shape = given[output].type, given[output].shape
            made.name = handed_name(name)
            graph.insert_before(first, node)
            if name in taken:
                taken[name].replace_all_uses_with(made)
            if self._handed_on:
                graph.outputs.insert(0, made)
        kept = [value for name, value in taken.items() if name not in self._fed]
        graph.inputs.clear()
        graph.inputs.extend([*inputs, *kept])
        for domain, version in front.opset_imports.items():
            model.opset_imports.setdefault(domain, version)


def _name_apart(graph: ir.Graph) -> None:
    """Gives nodes and what they compute names that no network has."""
    for number, node in enumerate(graph.all_nodes()):
        node.name = f"{_PREFIX}.{node.name or number}"
        for value in node.outputs:
            if value.name:
                value.name = f"{_PREFIX}.{value.name}"
