"""Writes joins in other operators as the additions that the unit search knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.graph.operands import graph_of
from skipc.compiler.graph.passes import RewritePass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


_TWO_OPERANDS = 11
"""Since this version of the operators a ``Gemm`` may do without a third operand."""


class JoinsAsAdditionsPass(RewritePass):
    """Replaces sums in other operators by chains of ``Add``.

    ``Sum(a, b, c)`` becomes ``(a + b) + c``, a ``ReduceSum`` over what was stacked the same,
    and ``Gemm(a, b, c)`` whose ``c`` is computed ``Gemm(a, b) + c``. What is computed first is
    added first: that is the stream, and each branch has an addition of its own.
    """

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the main graph, which must be topologically sorted."""
        graph = model.graph
        order = {value: place for place, value in enumerate(graph.inputs)}
        for node in list(graph):
            form = _FORMS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            terms = form(node) if form is not None else []
            if len(terms) > 1:
                _replace(node, sorted(terms, key=lambda value: _place(value, order)))
            for value in node.outputs:
                order[value] = len(order)


def _place(value: ir.Value, order: Mapping[ir.Value, int]) -> int:
    """Returns when a value is there: constants first, what was just made last."""
    return order.get(value, -1 if value.producer() is None else len(order))


def _sum(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _stacked(node: ir.Node) -> list[ir.Value]:
    """Returns what a ``ReduceSum`` adds up that was stacked for it alone."""
    stack = node.inputs[0].producer() if node.inputs[0] is not None else None
    if stack is None or stack.op_type != "Concat" or len(stack.outputs[0].uses()) != 1:
        return []
    parts = [value.producer() for value in stack.inputs if value is not None]
    axis = stack.attributes.get_int("axis", 0)
    if node.attributes.get_int("keepdims", 1) or _axes(node) != [axis]:
        return []
    if any(
        part is None or part.op_type != "Unsqueeze" or _axes(part) != [axis] for part in parts
    ):
        return []
    return [value for part in parts if part is not None for value in part.inputs[:1] if value]


def _product(node: ir.Node) -> list[ir.Value]:
    """Takes a computed third operand out of a ``Gemm``; returns the product and it."""
    added, graph = node.inputs[2] if len(node.inputs) > 2 else None, graph_of(node)
    if (
        added is None
        or added.const_value is not None
        or node.attributes.get_float("beta", 1.0) != 1
        or graph.opset_imports.get("", _TWO_OPERANDS) < _TWO_OPERANDS
    ):
        return []
    attributes = [each for name, each in node.attributes.items() if name != "beta"]
    product = ir.Node("", "Gemm", list(node.inputs[:2]), attributes)
    product.metadata_props.update(node.metadata_props)
    product.outputs[0].name = f"{node.outputs[0].name}.product"
    graph.insert_before(node, product)
    return [product.outputs[0], added]


_FORMS: dict[str, Callable[[ir.Node], list[ir.Value]]] = {
    "Gemm": _product,
    "ReduceSum": _stacked,
    "Sum": _sum,
}


def _replace(node: ir.Node, terms: Sequence[ir.Value]) -> None:
    """Puts a chain of additions in the place of ``node``; the last one has its name."""
    graph, result = graph_of(node), node.outputs[0]
    name, total = str(result.name), terms[0]
    for place, term in enumerate(terms[1:], 1):
        addition = ir.node("Add", [total, term])
        addition.metadata_props.update(node.metadata_props)
        addition.name = f"{node.name or name}.{place}"
        total = addition.outputs[0]
        total.name, total.type = f"{name}.{place}", result.type
        graph.insert_before(node, addition)
    result.replace_all_uses_with(total, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    total.shape, total.name = result.shape, name


def _axes(node: ir.Node) -> list[int]:
    """Returns the axes of a node, an attribute or a constant operand; [] if unknown."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"].as_ints())
    value = node.inputs[1] if len(node.inputs) > 1 else None
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return [] if tensor is None else np.atleast_1d(tensor.numpy()).tolist()
