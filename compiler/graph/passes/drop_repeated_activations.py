"""Removes activations that an equal one before them made redundant, as ReLU of a ReLU."""

from __future__ import annotations

import onnx_ir as ir

from skipc.compiler.graph.operands import operand
from skipc.compiler.graph.passes import RewritePass

_IDEMPOTENT = frozenset({"Abs", "Ceil", "Clip", "Floor", "Relu", "Round", "Sign"})


class DropRepeatedActivationsPass(RewritePass):
    """Replaces ``f(f(x))`` by ``f(x)`` for idempotent ``f``; so ``Relu`` behind a ``Clip``."""

    def rewrite(self, model: ir.Model) -> None:
        """Rewires the readers of redundant activations; dead nodes stay."""
        for node in list(model.graph):
            if node.op_type not in _IDEMPOTENT or node.domain not in ("", "ai.onnx"):
                continue
            value = operand(node, 0)
            before = value.producer()
            if before is None or node.outputs[0].is_graph_output():
                continue
            if _repeats(before, node) or _clipped_above_zero(before, node):
                node.outputs[0].replace_all_uses_with(value)


def _repeats(before: ir.Node, node: ir.Node) -> bool:
    left, right = before.inputs[1:], node.inputs[1:]
    return (
        before.op_identifier() == node.op_identifier()
        and before.attributes == node.attributes
        and len(left) == len(right)
        and all(_equal(a, b) for a, b in zip(left, right, strict=True))
    )


def _equal(left: ir.Value | None, right: ir.Value | None) -> bool:
    return left is right or (_number(left) is not None and _number(left) == _number(right))


def _clipped_above_zero(before: ir.Node, node: ir.Node) -> bool:
    if node.op_type != "Relu" or before.op_type != "Clip" or len(before.inputs) < 2:
        return False
    low = _number(before.inputs[1])
    return low is not None and low >= 0


def _number(value: ir.Value | None) -> float | None:
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return (
        float(tensor.numpy().reshape(-1)[0])
        if tensor is not None and tensor.size == 1
        else None
    )
