"""int8 as QuantizeLinear and DequantizeLinear nodes, which every target reads.

Weights are int8 per channel, symmetric; activations have one scale each, from their range on
data. A bias is int32, in the product of both scales, or float32, as the target wants it. ONNX
Runtime's own quantiser inserts the nodes.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.errors import SupernetError
from skipc.compiler.extras import require
from skipc.compiler.graph.costs import node_macs
from skipc.runtime.errors import reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.calibration import Calibration
    from skipc.compiler.verify.numerics import Case

_OLDEST_OPSET = 13
"""The first in which a DequantizeLinear has a scale per channel."""
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_BETWEEN = (
    *("Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "LeakyRelu", "MaxPool"),
    *("Mul", "Relu", "Sigmoid"),
)
"""What stays in int8 between convolutions. Between matrix products there are norms and a
softmax, which stay float32, and a residual stream, whose few large values spoil the others."""
_ANSWERING = (
    *("Add", "Flatten", "Gemm", "GlobalAveragePool", "LogSoftmax", "MatMul", "ReduceMean"),
    *("Reshape", "Softmax", "Squeeze"),
)
"""What makes a classifier's answer of features. It stays float32: it costs little, and what is
rounded there changes answers."""


class QuantizePass(ir.passes.FunctionalPass):
    """Returns a graph that computes convolutions and matrix products in int8.

    Values keep their names; inputs and outputs their types. Weights that were shared with
    other graphs are so again by content: int8 weights depend on the weights alone.

    Raises:
        SupernetError: The opset is too old, the graph is quantised already, or ONNX Runtime
            cannot quantise it.
    """

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self._cases, self._form = calibration.cases, calibration.form

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantises a copy of the graph."""
        opset = model.graph.opset_imports.get("", _OLDEST_OPSET)
        if opset < _OLDEST_OPSET:
            raise SupernetError(
                f"--precision int8: the graph is written in ONNX opset {opset}, which has one"
                f" scale per tensor alone. Export it with opset {_OLDEST_OPSET} or later."
            )
        if any(node.op_type == "QuantizeLinear" for node in model.graph):
            raise SupernetError(
                "--precision int8: the network is quantised already. Leave --precision and"
                " --calibrate out, and it is built as it is."
            )
        with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
            source, written = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            ir.save(model, source, external_data=f"{source.name}.data")
            self._quantize(source, written, model)
            # Read from memory: the folder goes.
            made = ir.from_proto(require("onnx", "finish").load(str(written)))
        made.ir_version = model.ir_version
        _copy_notes(model, made)
        return ir.passes.PassResult(made, modified=True)

    def _quantize(self, source: Path, written: Path, model: ir.Model) -> None:
        quantization = require("onnxruntime.quantization", "compiler")
        kind = quantization.QuantType
        logger = logging.getLogger()
        level = logger.level
        try:
            # It recommends its own optimiser, which would rename what is compared.
            logger.setLevel(logging.ERROR)
            quantization.quantize_static(
                source,
                written,
                _Reader(self._cases),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(_operators(model)),
                nodes_to_exclude=[str(n.name) for n in (*_odd(model), *_answering(model))],
                per_channel=True,
                reduce_range=self._form.seven_bits,
                activation_type=kind.QUInt8 if self._form.unsigned else kind.QInt8,
                weight_type=kind.QInt8,
                use_external_data_format=True,
                extra_options={
                    "ActivationSymmetric": not self._form.unsigned,
                    "QuantizeBias": self._form.integer_bias,
                    # What an addition follows: rounded, a sentence encoder's embeddings turn
                    # by a cosine of 0.93 instead of 0.99.
                    "OpTypesToExcludeOutputQuantization": ["MatMul"],
                },
            )
        # Its exceptions share no base class below Exception.
        except Exception as cause:
            raise SupernetError(
                f"--precision int8: ONNX Runtime cannot quantise the graph: {reason_of(cause)}"
            ) from cause
        finally:
            logger.setLevel(level)


class _Reader:
    """Gives the cases as ONNX Runtime's calibration asks for them, None after the last."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._left = iter(cases)

    def get_next(self) -> Case | None:
        return next(self._left, None)


def _operators(model: ir.Model) -> tuple[str, ...]:
    """Returns the operators that are quantised: what most of the arithmetic is decides."""
    macs = {True: 0, False: 0}
    for node in model.graph:
        macs["Conv" in node.op_type] += node_macs(node)
    return (*_PRODUCTS, *_BETWEEN) if macs[True] >= macs[False] else _PRODUCTS


def _answering(model: ir.Model) -> set[ir.Node]:
    """Returns the last layers before the outputs, and the means that they are computed of."""
    found: set[ir.Node] = set()
    reached = list(model.graph.outputs)
    while reached:
        node = reached.pop().producer()
        if node is None or node in found or node.op_type not in _ANSWERING:
            continue
        read = [v for v in node.inputs if v is not None and v.const_value is None]
        if len(read) == 1:  # no sum of two branches, no product of two results
            found.add(node)
            reached += read
    return found


def _odd(model: ir.Model) -> list[ir.Node]:
    """Returns products without weights, or whose weights ONNX Runtime scales by no channels.

    Those stand on the left, or are a batch of matrices. So are those that resize images.
    """
    found = []
    for node in model.graph:
        if node.op_type == "MatMul":
            left, right = (None if v is None else v.const_value for v in node.inputs)
            odd = left is not None or right is None or len(right.shape) > 2
            if odd or str(node.outputs[0].name).endswith(".resize"):
                found.append(node)
    return found


def _copy_notes(model: ir.Model, made: ir.Model) -> None:
    """Gives nodes and values what was known of them, and what stands for a value its shape."""
    before = {str(value.name): value for node in model.graph for value in node.outputs}
    for node in made.graph:
        for value in node.outputs:
            known = before.get(str(value.name))
            if known is None:
                continue
            _copy(known, value)
            value.type = known.type
            producer = known.producer()
            assert producer is not None
            node.metadata_props.update(producer.metadata_props)
            if node.op_type not in (producer.op_type, "DequantizeLinear"):
                # A Relu that rounding to its range makes needless: this is what it read.
                value.name = f"{value.name}.unclipped"
    # A graph's output is computed under another name, which gets its shape from behind.
    for node in (*made.graph, *reversed(made.graph)):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        (read, _, point), (result,) = node.inputs, node.outputs
        assert read is not None
        assert point is not None
        assert point.const_value is not None
        _copy(*((read, result) if result.shape is None else (result, read)))
        whole = node.op_type == "QuantizeLinear"
        integer, real = (result, read) if whole else (read, result)
        integer.type = ir.TensorType(point.const_value.dtype)
        real.type = ir.TensorType(ir.DataType.FLOAT)


def _copy(source: ir.Value, to: ir.Value) -> None:
    if to.shape is None:
        to.shape = source.shape
        to.metadata_props.update(source.metadata_props)
