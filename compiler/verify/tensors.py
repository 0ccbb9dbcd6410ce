"""What a graph and its reference compute in between, and what rounding explains of it.

Two computations of one network round differently. A value is rounded by the last operation on
it, by a share of the numbers that *this* operation works with, however small the value is:

- what moves values, or takes the larger of two, rounds nothing: it hands on what it reads;
- a sum rounds its terms, so ``a - b`` of two numbers around 1000 is as coarse as they are;
- a product of a matrix with a vector is a sum, too: of a row's terms, of which the largest are
  about the row's norm times the vector's largest value;
- a softmax takes the difference of its inputs, and a sigmoid, tanh or exponential is computed
  around 1 (``0.5 + p(x) / q(x)``), so they round by a share of 1 where they return 1e-7.

The largest of these numbers is the *scale* of a tensor. A tolerance of ``t`` is a share of a
range; the rounding ``r`` of the arithmetic, as a share of the scale, is within it where the
range is at least ``r / t`` of the scale: ``Tolerance.least_range``. A tensor that varies less
is compared as if it varied so much.

Some outputs tell little of what they are computed from, which is therefore compared, too: one
that hardly varies; one that is joined from parts, of which a small one (scores) can hide in
the range of a large one (boxes); and one of a function that saturates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from skipc.compiler.graph.index import ACTIVATION_OPS, MODULE_KEY
from skipc.compiler.network import Arithmetic
from skipc.compiler.verify.numerics import Difference, difference, magnitude, ranges_of, spread
from skipc.compiler.verify.onnx_reference import expose_all
from skipc.compiler.verify.rounding import RoundInsteadPass
from skipc.compiler.verify.sessions import GraphRunner, Optimise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.network import Network
    from skipc.compiler.verify.numerics import Case

# A configuration's name cannot start with "_", so no graph of the family is called this.
_PROBE = "_probe.onnx"

_MOVING = frozenset(
    {
        "Cast", "CastLike", "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad",
        "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
_HANDING_ON = _MOVING | frozenset(
    {
        "Abs", "Clip", "LeakyRelu", "Max", "MaxPool", "Min", "Neg", "PRelu", "ReduceMax",
        "ReduceMin", "Relu", "ThresholdedRelu", "TopK", "Where",
    }
)  # fmt: skip
_SCALING = frozenset({"Add", "Div", "Mul", "Sub"})
_SUMS = frozenset(
    {
        "Add", "AveragePool", "GlobalAveragePool", "LogSoftmax", "Mean", "ReduceLogSumExp",
        "ReduceMean", "ReduceSum", "Softmax", "Sub", "Sum",
    }
)  # fmt: skip
_AROUND_ONE = (ACTIVATION_OPS | {"Cos", "Log", "Pow", "Sin"}) - _HANDING_ON
_ROW_AXES = {"Conv": 0, "MatMul": -1}
"""By operator, the axis of its weights along which its sums differ."""


class Tensors:
    """Every tensor that a graph and its reference both compute, for one case.

    ``graph``, a file beside its weights, was written of the network; it is run as it is.
    """

    def __init__(self, graph: Path, network: Network, case: Case) -> None:
        model = ir.load(graph)
        if Arithmetic.ROUNDED in network.tolerance.runs:
            RoundInsteadPass()(model)
        self._tolerance = network.tolerance
        self._nodes = {str(v.name): node for node in model.graph for v in node.outputs}
        expose_all(model)
        probe = graph.with_name(_PROBE)
        try:
            ir.save(model, probe)
            self._found: Mapping[str, NDArray[Any]] = GraphRunner(probe, Optimise.NOTHING).run(
                case
            )
        finally:
            probe.unlink(missing_ok=True)
        # An exit may have the name of the end that it takes the place of.
        expected = {**dict(network.reference.trace(case)), **network.reference.run([case])[0]}
        # A shape of its own is an exporter's, not a fault.
        self._expected = {
            name: array
            for name, array in expected.items()
            if name in self._found and self._found[name].shape == array.shape
        }
        self._case = case
        self._scales: dict[str, float] = {}
        # In the graph's order, so that none is asked for before those that it depends on.
        for name in self._nodes:
            self.scale(name)

    def least_range(self, name: str) -> float:
        """Returns what a tensor is taken to vary by at least: what its rounding allows."""
        return self._tolerance.least_range * self.scale(name)

    def scale(self, name: str) -> float:
        """Returns the largest number that the last operation on a tensor works with."""
        if name not in self._scales:
            found = self._scales[name] = _largest(self._array(name))
            if name in self._nodes:
                self._scales[name] = max(found, self._operation(self._nodes[name]))
        return self._scales[name]

    def first_different(self) -> str:
        """Returns a sentence that names the first tensor that differs."""
        for name, node in self._nodes.items():
            if name not in self._expected:
                continue
            error = self._error(name)
            if not error.within(self._tolerance.relative):
                module = node.metadata_props.get(MODULE_KEY, "")
                return (
                    f"The first tensor that differs is {name!r} in module {module!r}"
                    f" ({error.relative_error:.3g} of its range)."
                )
        return (
            "No intermediate tensor differs when ONNX Runtime runs the graph unoptimised: its"
            " optimisations make the difference. Try another onnxruntime version, or allow it"
            " with --tolerance."
        )

    def hides_a_fault(self, output: str) -> bool:
        """Tells whether a tensor differs of which an output tells little."""
        limit = self._tolerance.relative
        return any(not self._error(name).within(limit) for name in self._telling(output))

    def _telling(self, output: str) -> Iterator[str]:
        pending, seen = [output], {output}
        while pending:
            name = pending.pop()
            if name in self._expected:
                yield name
            node = self._nodes.get(name)
            if node is None:
                continue
            if name not in self._expected or self._hardly_varies(name) or hides(node):
                read = [str(v.name) for v in node.inputs if v is not None]
                pending += [one for one in read if one not in seen]
                seen.update(read)

    def _operation(self, node: ir.Node) -> float:
        """Returns the largest number that a node works with, what it returns left out."""
        operands = [value for value in node.inputs if value is not None]
        if node.op_type in _HANDING_ON:
            return max(self._operand(value) for value in operands)
        one = float(node.op_type in _AROUND_ONE)
        if node.op_type in _SUMS:
            return max(one, *(self._operand(value) for value in operands))
        if node.op_type == "Mul":
            left, right = operands
            return max(
                self._operand(left) * self._magnitude(right),
                self._operand(right) * self._magnitude(left),
            )
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            data, weights, *bias = operands
            rows = _row_norm(node, weights)
            return max(rows * self._magnitude(data), *(self._magnitude(b) for b in bias), 0.0)
        return one

    def _operand(self, value: ir.Value) -> float:
        return self._magnitude(value) if value.const_value else self.scale(str(value.name))

    def _magnitude(self, value: ir.Value) -> float:
        constant = value.const_value
        return _largest(self._array(str(value.name)) if constant is None else constant.numpy())

    def _array(self, name: str) -> NDArray[Any]:
        known = (arrays.get(name) for arrays in (self._expected, self._found, self._case))
        return next((array for array in known if array is not None), np.zeros(0))

    def _hardly_varies(self, name: str) -> bool:
        return spread([{name: self._expected[name]}], name) < self.least_range(name)

    def _error(self, name: str) -> Difference:
        expected = [{name: self._expected[name]}]
        ranges = ranges_of(expected, {name: self.least_range(name)})
        return difference([{name: self._found[name]}], expected, ranges)


def hides(node: ir.Node | None) -> bool:
    """Tells whether what a node returns is joined, or of a function that saturates.

    It may have been moved since, or scaled by constants.
    """
    while node is not None:
        if node.op_type == "Concat" or node.op_type in _AROUND_ONE:
            return True
        computed = [v for v in node.inputs if v is not None and v.const_value is None]
        scaled = node.op_type in _SCALING and len(computed) == 1
        node = computed[0].producer() if scaled or node.op_type in _MOVING else None
    return False


def _largest(array: NDArray[Any]) -> float:
    """Returns the magnitude of what is rounded: of indices, sizes and conditions 0."""
    return magnitude(array) if array.dtype.kind == "f" else 0.0


def _row_norm(node: ir.Node, weights: ir.Value) -> float:
    """Returns the largest norm of a row of weights, 0 where they are computed."""
    if weights.const_value is None:
        return 0.0
    array = weights.const_value.numpy().astype(np.float64)
    axis = _ROW_AXES.get(node.op_type, -1 - node.attributes.get_int("transB", 0))
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    return float(np.sqrt((rows * rows).sum(1)).max(initial=0.0))
