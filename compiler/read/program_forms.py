"""Operators of a program put into the forms that the rest knows: additions, batch norms.

The program is what the graph is exported from and what it is compared with: both then have one
node for one join, and the statistics of a norm where they can be set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

_PRODUCTS = {
    "aten.addcmul.default": "mul.Tensor",
    "aten.addmm.default": "mm.default",
    "aten.addmv.default": "mv.default",
    "aten.baddbmm.default": "bmm.default",
}
"""What is added to the first argument: a product of the two others."""


def settle_forms(program: ExportedProgram) -> None:
    """Rewrites operators in place, each under its own name; what they compute is the same."""
    inputs = set(program.graph_signature.user_inputs)
    for node in list(program.graph.nodes):
        target = str(node.target)
        if target in _PRODUCTS and len(node.args) == 3:
            first = node.args[0]
            # A bias is no stream: its product is one kernel with it.
            if first.op != "placeholder" or first.name in inputs:
                _add_product(node, _PRODUCTS[target])
        elif target == "aten.instance_norm.default" and node.args[5:6] == (False,):
            _become(node, "batch_norm.default", *node.args)
        elif target == "aten.sum.dim_IntList" and not node.kwargs:
            _add_stacked(node)
    program.graph.lint()
    program.graph_module.recompile()


def _add_product(node: torch.fx.Node, product: str) -> None:
    """Makes ``beta * first + alpha * product`` an addition of its two terms."""
    first, *factors = node.args
    scales = node.kwargs
    kept = _scaled(node, first, scales.get("beta", 1))
    term: object = _before(node, product, *factors)
    term = _scaled(node, term, scales.get("alpha", scales.get("value", 1)))
    _become(node, "add.Tensor", kept, term)


def _add_stacked(node: torch.fx.Node) -> None:
    """Makes a sum over what was stacked additions; one of whole numbers is of another type."""
    arguments: Any = node.args
    stack, dims, *keep = arguments
    terms = list(stack.args[0]) if str(stack.target) == "aten.stack.default" else []
    if len(terms) < 2 or any(keep) or dims != [*stack.args[1:], 0][:1]:
        return
    if stack.kwargs or not stack.meta["val"].is_floating_point():
        return
    total = terms[0]
    for term in terms[1:-1]:
        total = _before(node, "add.Tensor", total, term)
    _become(node, "add.Tensor", total, terms[-1])


def _scaled(node: torch.fx.Node, value: object, factor: object) -> object:
    return value if factor == 1 else _before(node, "mul.Tensor", value, factor)


def _before(node: torch.fx.Node, operator: str, *arguments: object) -> torch.fx.Node:
    """Returns a new node before ``node``, which belongs to the same module."""
    import torch

    graph = node.graph
    with graph.inserting_before(node):
        new = graph.call_function(_overload(operator), arguments)  # type: ignore[arg-type]
    values = [a.meta["val"] if isinstance(a, torch.fx.Node) else a for a in arguments]
    new.meta = {**node.meta, "val": _overload(operator)(*values)}
    return new


def _become(node: torch.fx.Node, operator: str, *arguments: object) -> None:
    node.target = _overload(operator)
    node.args, node.kwargs = arguments, {}  # type: ignore[assignment]


def _overload(operator: str) -> torch._ops.OpOverload:
    import torch

    name, overload = operator.split(".")
    found: torch._ops.OpOverload = getattr(getattr(torch.ops.aten, name), overload)
    return found
