"""Scales batch norms by one number per layer, at one multiplication per residual branch.

A norm behind a kernel ``W`` computes ``s * a * (W x - m) + b``: ``a`` is the same for every
configuration, so ``a W`` can be folded and shared; ``s``, ``m`` and ``b`` are not. ``relu``
and its like let a positive scalar through (``relu(s u) = s relu(u)``), and so do kernels:

    W2 relu(s1 (a1 W1 x) + c1) = s1 W2 relu(a1 W1 x + c1 / s1)

so nothing is multiplied until the last kernel before something that does not let it through
(the residual join), whose input then takes the product of all scalars. There, a bottleneck
is at its narrowest; and no optimiser folds a multiplication into the kernel behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.batch_norms import KERNEL_OPS, find_norms, is_norm
from skipc.compiler.graph.index import ACTIVATION_OPS, module_path
from skipc.compiler.graph.passes.scale_operands import multiply, product
from skipc.compiler.graph.passes.set_norms import (
    BIAS,
    MEAN,
    VARIANCE,
    operand_array,
    set_operand,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.compiler.norms.statistics import NormStatistics

_HOMOGENEOUS = frozenset(
    {
        "AveragePool", "DepthToSpace", "Dropout", "Expand", "Flatten", "GlobalAveragePool",
        "GlobalMaxPool", "Identity", "LeakyRelu", "MaxPool", "PRelu", "ReduceMax",
        "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Slice", "SpaceToDepth",
        "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Operators with ``f(s x) = s f(x)`` for every ``s > 0`` in their first operand."""


class ScaleNormsPass(ir.passes.InPlacePass):
    """Gives norms their base multiplier, new means and scalars, and lets these through.

    Args:
        statistics: The configuration's by the name of the value that a norm computes; those
            whose ``scale`` is None are left alone.
    """

    def __init__(self, statistics: Mapping[str, NormStatistics]) -> None:
        super().__init__()
        self._statistics = {k: v for k, v in statistics.items() if v.scale is not None}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites norms and biases, and inserts the multiplications."""
        check_homogeneous(model, frozenset(self._statistics))
        # Value -> the factor that its content still lacks; 1 where it is not listed.
        self._pending: dict[ir.Value, float] = {}
        for node in list(model.graph):
            if _is_kernel(node):
                self._kernel(node)
            elif is_norm(node):
                self._norm(node)
            elif _lets_through(node) and node.inputs[0] in self._pending:
                self._pending[node.outputs[0]] = self._pending[node.inputs[0]]
            else:
                for operand, value in enumerate(node.inputs):
                    if value in self._pending:
                        multiply(node, operand, self._pending[value], _scale_of(node))
        for output in list(model.graph.outputs):
            if output in self._pending:
                _multiply_output(output, self._pending[output])
        return ir.passes.PassResult(model, modified=bool(self._statistics))

    def _kernel(self, node: ir.Node) -> None:
        incoming = self._pending.get(_data(node), 1.0)
        output = node.outputs[0]
        if not _meets_stop(output):
            if incoming != 1.0:
                _scale_bias(node, 1 / incoming)
                self._pending[output] = incoming
            return
        norm = _norm_behind(output)
        own = 1.0
        if norm is not None and str(norm.outputs[0].name) in self._statistics:
            own = self._scale(norm)
        if not _is_one(incoming * own):
            multiply(node, 0, incoming * own, _scale_of(node))
        if own != 1.0:
            _scale_bias(node, own)
            self._pending[output] = 1 / own

    def _norm(self, node: ir.Node) -> None:
        name = str(node.outputs[0].name)
        incoming = self._pending.get(_data(node), 1.0)
        if name in self._statistics:
            statistics = self._statistics[name]
            outgoing = incoming * self._scale(node)
            set_operand(node, MEAN, statistics.mean.astype(np.float64) / incoming)
            set_operand(node, VARIANCE, statistics.variance)
            set_operand(node, BIAS, operand_array(node, BIAS) / outgoing)
            if not _is_one(outgoing):
                self._pending[node.outputs[0]] = outgoing
        elif incoming != 1.0:
            epsilon = node.attributes.get_float("epsilon", 1e-5)
            variance = operand_array(node, VARIANCE) + epsilon
            set_operand(node, MEAN, operand_array(node, MEAN) / incoming)
            set_operand(node, VARIANCE, variance / incoming**2 - epsilon)

    def _scale(self, norm: ir.Node) -> float:
        scale = self._statistics[str(norm.outputs[0].name)].scale
        assert scale is not None
        return scale


def check_homogeneous(model: ir.Model, outputs: frozenset[str] | None = None) -> None:
    """Refuses, by a ``SupernetError``, an activation that would not let a scalar through.

    Args:
        model: The graph.
        outputs: Names of the values that the norms to scale compute; None for all that
            stand behind a kernel.
    """
    wanted = outputs
    if wanted is None:
        wanted = frozenset(norm.output for norm in find_norms(model) if norm.folds)
    for node in model.graph:
        if str(node.outputs[0].name) not in wanted:
            continue
        for stop in _stops(node.outputs[0]):
            if stop.op_type in ACTIVATION_OPS:
                raise SupernetError(
                    f"--norm scalar: the activation {stop.op_type} in module"
                    f" {module_path(stop)!r} follows the batch norm"
                    f" {module_path(node)!r} and is not positively homogeneous (as Relu is:"
                    " relu(s x) = s relu(x)), so the scalar cannot be pushed through it. Use"
                    " --norm full, or --norm shared."
                )


def _data(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _is_kernel(node: ir.Node) -> bool:
    """Tells whether ``node`` is linear in its first operand but for a constant bias."""
    return node.op_type in KERNEL_OPS and all(
        value is None or value.const_value is not None for value in node.inputs[1:]
    )


def _lets_through(node: ir.Node) -> bool:
    if node.op_type in _HOMOGENEOUS:
        return len(node.outputs) == 1
    others = [value for value in node.inputs[1:] if value is not None]
    if node.op_type in ("Mul", "Div"):
        return all(value.const_value is not None for value in others)
    if node.op_type == "Pad":
        filled = others[1:2]
        return all(
            value.const_value is not None and not value.const_value.numpy().any()
            for value in filled
        )
    return False


def _stops(value: ir.Value) -> list[ir.Node]:
    """Returns the nodes that ``value`` reaches and that let no scalar through."""
    found = []
    for user, operand in value.uses():
        if operand == 0 and _is_kernel(user):
            continue
        if operand == 0 and (is_norm(user) or _lets_through(user)):
            found += _stops(user.outputs[0])
        else:
            found.append(user)
    return found


def _meets_stop(value: ir.Value) -> bool:
    if value.is_graph_output() or _stops(value):
        return True
    return any(
        _meets_stop(user.outputs[0])
        for user, operand in value.uses()
        if operand == 0 and not _is_kernel(user)
    )


def _is_one(factor: float) -> bool:
    # A factor and its inverse give 1 but for rounding.
    return abs(factor - 1.0) < 1e-12


def _norm_behind(value: ir.Value) -> ir.Node | None:
    users = value.consumers()
    return users[0] if len(users) == 1 and is_norm(users[0]) else None


def _scale_bias(node: ir.Node, factor: float) -> None:
    if len(node.inputs) > 2 and node.inputs[2] is not None and factor != 1.0:
        set_operand(node, BIAS, operand_array(node, BIAS) * factor)


def _scale_of(node: ir.Node) -> str:
    return f"{node.outputs[0].name}.scale"


def _multiply_output(output: ir.Value, factor: float) -> None:
    producer = output.producer()
    assert producer is not None
    assert producer.graph is not None
    name = output.name
    output.name = f"{name}.unscaled"
    scaled = product(output, factor, f"{name}.scale", producer.graph)
    scaled.outputs[0].name = name
    producer.graph.insert_after(producer, scaled)
    output.replace_all_uses_with(scaled.outputs[0], replace_graph_outputs=True)
    scaled.replace_input_with(0, output)
