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

from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.batch_norms import KERNEL_OPS, find_norms, is_norm
from skipc.compiler.graph.index import ACTIVATION_OPS, module_path
from skipc.compiler.graph.operands import (
    BIAS,
    MEAN,
    VARIANCE,
    constant_array,
    graph_of,
    multiply,
    operand,
    product,
    set_operand,
)
from skipc.compiler.graph.passes import RewritePass

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

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


class ScaleNormsPass(RewritePass):
    """Gives norms a configuration's statistics, and lets scalars through.

    A norm that is scaled takes the base multiplier, its own mean and a scalar.

    Args:
        statistics: The configuration's by the name of the value that a norm computes.
    """

    def __init__(self, statistics: Mapping[str, NormStatistics]) -> None:
        super().__init__()
        self._statistics = statistics

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites norms and biases, and inserts the multiplications."""
        scaled = (name for name, own in self._statistics.items() if own.scale is not None)
        check_homogeneous(model, frozenset(scaled))
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
                for place, value in enumerate(node.inputs):
                    if value in self._pending:
                        multiply(node, place, self._pending[value], _scale_of(node))
        for output in list(model.graph.outputs):
            if output in self._pending:
                _multiply_output(output, self._pending[output])

    def _kernel(self, node: ir.Node) -> None:
        incoming = self._pending.get(operand(node, 0), 1.0)
        output = node.outputs[0]
        if not _meets_stop(output):
            if incoming != 1.0:
                _scale_bias(node, 1 / incoming)
                self._pending[output] = incoming
            return
        users = output.consumers()
        own = self._scale(users[0]) if len(users) == 1 else 1.0
        if not _is_one(incoming * own):
            multiply(node, 0, incoming * own, _scale_of(node))
        if own != 1.0:
            _scale_bias(node, own)
            self._pending[output] = 1 / own

    def _norm(self, node: ir.Node) -> None:
        name = str(node.outputs[0].name)
        own, incoming = self._statistics.get(name), self._pending.get(operand(node, 0), 1.0)
        mean = constant_array(node, MEAN) if own is None else own.mean.astype(np.float64)
        variance = constant_array(node, VARIANCE) if own is None else own.variance
        if own is not None and own.scale is not None:
            outgoing = incoming * own.scale
            set_operand(node, BIAS, constant_array(node, BIAS) / outgoing)
            if not _is_one(outgoing):
                self._pending[node.outputs[0]] = outgoing
        elif incoming != 1.0:
            epsilon = node.attributes.get_float("epsilon", 1e-5)
            variance = (variance + epsilon) / incoming**2 - epsilon
        elif own is None:
            return
        set_operand(node, MEAN, mean / incoming)
        set_operand(node, VARIANCE, variance)

    def _scale(self, norm: ir.Node) -> float:
        own = self._statistics.get(str(norm.outputs[0].name)) if is_norm(norm) else None
        return 1.0 if own is None or own.scale is None else own.scale


def check_homogeneous(model: ir.Model, outputs: frozenset[str] | None = None) -> None:
    """Refuses with a ``SupernetError`` an activation that would not let a scalar through.

    ``outputs`` are of the norms to scale; None for all that stand behind a kernel.
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
    for user, place in value.uses():
        if place == 0 and _is_kernel(user):
            continue
        if place == 0 and (is_norm(user) or _lets_through(user)):
            found += _stops(user.outputs[0])
        else:
            found.append(user)
    return found


def _meets_stop(value: ir.Value) -> bool:
    if value.is_graph_output() or _stops(value):
        return True
    return any(
        _meets_stop(user.outputs[0])
        for user, place in value.uses()
        if place == 0 and not _is_kernel(user)
    )


def _is_one(factor: float) -> bool:
    # A factor and its inverse give 1 but for rounding.
    return abs(factor - 1.0) < 1e-12


def _scale_bias(node: ir.Node, factor: float) -> None:
    if len(node.inputs) > 2 and node.inputs[2] is not None and factor != 1.0:
        set_operand(node, BIAS, constant_array(node, BIAS) * factor)


def _scale_of(node: ir.Node) -> str:
    return f"{node.outputs[0].name}.scale"


def _multiply_output(output: ir.Value, factor: float) -> None:
    producer = output.producer()
    assert producer is not None
    name = output.name
    output.name = f"{name}.unscaled"
    scaled = product(output, factor, f"{name}.scale", graph_of(producer))
    scaled.outputs[0].name = name
    graph_of(producer).insert_after(producer, scaled)
    output.replace_all_uses_with(scaled.outputs[0], replace_graph_outputs=True)
    scaled.replace_input_with(0, output)
