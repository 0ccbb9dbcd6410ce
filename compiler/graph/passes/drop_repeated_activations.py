"""Removes activations that an equal one before them made redundant, as ReLU of a ReLU."""

from __future__ import annotations

import onnx_ir as ir

_IDEMPOTENT = frozenset({"Abs", "Ceil", "Clip", "Floor", "Relu", "Round", "Sign"})


class DropRepeatedActivationsPass(ir.passes.InPlacePass):
    """Replaces ``f(f(x))`` by ``f(x)`` for idempotent ``f``; so ``Relu`` behind a ``Clip``."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewires the readers of redundant activations; dead nodes stay."""
        modified = False
        for node in list(model.graph):
            if node.op_type not in _IDEMPOTENT or node.domain not in ("", "ai.onnx"):
                continue
            value = node.inputs[0]
            before = value.producer() if value is not None else None
            if before is None or value is None or node.outputs[0].is_graph_output():
                continue
            if _repeats(before, node) or _clipped_above_zero(before, node):
                node.outputs[0].replace_all_uses_with(value)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _repeats(before: ir.Node, node: ir.Node) -> bool:
    return (
        before.op_type == node.op_type
        and before.domain == node.domain
        and before.attributes == node.attributes
        and _same_settings(before, node)
    )


def _same_settings(before: ir.Node, node: ir.Node) -> bool:
    left, right = before.inputs[1:], node.inputs[1:]
    return len(left) == len(right) and all(
        a is b or _equal(a, b) for a, b in zip(left, right, strict=True)
    )


def _equal(left: ir.Value | None, right: ir.Value | None) -> bool:
    a, b = _number(left), _number(right)
    return a is not None and a == b


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
