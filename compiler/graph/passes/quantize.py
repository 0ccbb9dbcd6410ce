"""int8 as QuantizeLinear and DequantizeLinear nodes, which every target reads.

Weights are int8 per channel, symmetric; activations have one scale each, from their range on
data. A bias is int32, in the product of both scales, or float32, as the target wants it. ONNX
Runtime's own quantiser inserts the nodes.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from skipc.compiler.errors import SupernetError
from skipc.compiler.extras import require
from skipc.compiler.graph.int8_layers import (
    UNROUNDED,
    integer_nodes,
    quantised_operators,
    staying,
)
from skipc.compiler.graph.passes.drop_requantising import same_scale
from skipc.runtime.errors import reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from numpy.typing import NDArray

    from skipc.compiler.targets.options import Int8Form
    from skipc.compiler.verify.numerics import Case

_OLDEST_OPSET = 13
"""The first in which a DequantizeLinear has a scale per channel."""

Ranges = Mapping[str, tuple[Any, Any]]
"""By tensor the smallest and the largest number that was observed, arrays of one."""


def observed_ranges(model: ir.Model, cases: Sequence[Case]) -> Ranges:
    """Returns the ranges of a graph's activations on data.

    Raises:
        SupernetError: ONNX Runtime cannot run the graph with its activations as outputs.
    """
    quantization = require("onnxruntime.quantization", "compiler")
    with quantiser(model) as source:
        calibrator = quantization.create_calibrator(
            source,
            [*quantised_operators(model.graph)],
            augmented_model_path=str(source.with_name("observed.onnx")),
            use_external_data_format=True,
        )
        calibrator.collect_data(_Reader(cases))
        found: Ranges = {
            name: each.range_value for name, each in calibrator.compute_data().items()
        }
    return found


class QuantizePass(ir.passes.FunctionalPass):
    """Returns a graph that computes convolutions and matrix products in int8.

    Values keep their names; inputs and outputs their types. Weights that were shared with
    other graphs are so again by content: int8 weights depend on the weights alone.

    Args:
        ranges: Of the graph's activations.
        form: How the target wants int8.
        floating: The layers that stay float32, or modules that hold several.
        rounded: Tensors that are rounded to their range, whoever reads them.
        keep: Whether activations stay that rounding to a range makes needless.

    Raises:
        SupernetError: The opset is too old, the graph is quantised already, or ONNX Runtime
            cannot quantise it.
    """

    def __init__(
        self,
        ranges: Ranges,
        form: Int8Form,
        floating: Sequence[str] = (),
        rounded: frozenset[str] = frozenset(),
        *,
        keep: bool = False,
    ) -> None:
        super().__init__()
        self._ranges, self._form, self._floating = ranges, form, floating
        self._rounded, self._keep = rounded, keep

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantises a copy of the graph."""
        with quantiser(model) as source:
            made = ir.from_proto(self._quantized(source, model))
        made.ir_version = model.ir_version
        read_unrounded(made.graph, integer_nodes(model.graph, self._floating))
        for name in self._rounded & self._ranges.keys():
            self._round(name, model, made.graph)
        _copy_notes(model, made)
        return ir.passes.PassResult(made, modified=True)

    def _quantized(self, source: Path, model: ir.Model) -> onnx.ModelProto:
        quantization = require("onnxruntime.quantization", "compiler")
        utilities = require("onnxruntime.quantization.quant_utils", "compiler")
        kind, least = quantization.QuantType, quantization.CalibrationMethod.MinMax
        quantizer = quantization.QDQQuantizer(
            model=utilities.load_model_with_shape_infer(source),
            per_channel=True,
            reduce_range=self._form.seven_bits,
            weight_qType=kind.QInt8,
            activation_qType=kind.QUInt8 if self._form.unsigned else kind.QInt8,
            tensors_range=quantization.TensorsData(least, dict(self._ranges)),
            nodes_to_quantize=[],
            nodes_to_exclude=[str(n.name) for n in staying(model.graph, self._floating)],
            op_types_to_quantize=[*quantised_operators(model.graph)],
            extra_options={
                "ActivationSymmetric": not self._form.unsigned,
                "QuantizeBias": self._form.integer_bias,
                "OpTypesToExcludeOutputQuantization": [*UNROUNDED],
                "QDQKeepRemovableActivations": self._keep,
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        made: onnx.ModelProto = quantizer.model.model
        return made

    def _round(self, name: str, model: ir.Model, made: ir.Graph) -> None:
        """Rounds a value to its own range, unless ONNX Runtime's quantiser has done so.

        It does not where an activation alone reads the value: then to the range behind that.
        """
        makers = {str(node.outputs[0].name): str(node.name) for node in model.graph}
        maker = next((node for node in made if node.name == makers.get(name)), None)
        if maker is None:
            return
        value, constants = maker.outputs[0], []
        for what, array in zip(("scale", "zero_point"), self._scale(name), strict=True):
            own = f"{name}_{what}"
            constants.append(ir.val(own, const_value=ir.tensor(array, name=own)))
        uses = list(value.uses())
        if any(same_scale(node.inputs[1:], constants) for node, _ in uses):
            return
        for constant in constants:
            made.register_initializer(constant)
        integers = ir.node("QuantizeLinear", [value, *constants])
        rounded = ir.node("DequantizeLinear", [integers.outputs[0], *constants])
        integers.outputs[0].name, rounded.outputs[0].name = f"{name}_whole", f"{name}_rounded"
        made.insert_after(maker, [integers, rounded])
        for node, place in uses:
            node.replace_input_with(place, rounded.outputs[0])

    def _scale(self, name: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Returns scale and zero point of a value, as ONNX Runtime's quantiser does."""
        utilities = require("onnxruntime.quantization.quant_utils", "compiler")
        kind = utilities.QuantType.QUInt8 if self._form.unsigned else utilities.QuantType.QInt8
        symmetric, (low, high) = not self._form.unsigned, self._ranges[name]
        ends = utilities.get_qmin_qmax_for_qType(kind.tensor_type, symmetric=symmetric)
        point, scale = utilities.compute_scale_zp(low, high, *ends, symmetric)
        return np.array(scale, np.float32).squeeze(), np.array(point).squeeze()


def check_quantizable(model: ir.Model) -> None:
    """Refuses a graph with a ``SupernetError`` of which no int8 graph can be made."""
    opset = model.graph.opset_imports.get("", _OLDEST_OPSET)
    if opset < _OLDEST_OPSET:
        raise SupernetError(
            f"int8: the graph is written in ONNX opset {opset}, which has one scale per tensor"
            f" alone. Export it with opset {_OLDEST_OPSET} or later."
        )
    kinds = {node.op_type for node in model.graph}
    if kinds & {"QuantizeLinear", "DynamicQuantizeLinear"}:
        raise SupernetError(
            "int8: the network is quantised already. Leave --precision and --calibrate out,"
            " and it is built as it is."
        )


@contextmanager
def quantiser(model: ir.Model) -> Iterator[Path]:
    """Yields a file of the graph for ONNX Runtime's quantiser, whose errors become ours."""
    check_quantizable(model)
    logger = logging.getLogger()
    level = logger.level
    with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
        source = Path(folder) / "float.onnx"
        ir.save(model, source, external_data=f"{source.name}.data")
        try:
            # It recommends its own optimiser, which would rename what is compared.
            logger.setLevel(logging.ERROR)
            yield source
        # Its exceptions share no base class below Exception.
        except Exception as cause:
            raise SupernetError(
                f"int8: ONNX Runtime cannot quantise the graph: {reason_of(cause)}"
            ) from cause
        finally:
            logger.setLevel(level)


class _Reader:
    """Gives the cases as ONNX Runtime's calibration asks for them, None after the last."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._left = iter(cases)

    def get_next(self) -> Case | None:
        return next(self._left, None)


def read_unrounded(graph: ir.Graph, integer: Collection[str]) -> None:
    """Lets what stays float32 read numbers as they were before they were rounded.

    Once a tensor is rounded for one layer, ONNX Runtime's quantiser has everybody read it so:
    also a residual stream, which adds up. What a layer computes in integers is rounded anyway.

    Args:
        graph: A quantised graph.
        integer: The names of the nodes that are quantised.
    """
    for node in graph:
        if node.name in integer or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for place, value in enumerate(node.inputs):
            dequantised = None if value is None else value.producer()
            if dequantised is None or dequantised.op_type != "DequantizeLinear":
                continue
            read = dequantised.inputs[0]
            rounded = None if read is None else read.producer()
            if rounded is None or rounded.op_type != "QuantizeLinear":
                continue
            exact = rounded.inputs[0]
            assert exact is not None
            maker = exact.producer()
            if maker is None or maker.name not in integer or maker.op_type in UNROUNDED:
                node.replace_input_with(place, exact)


def _copy_notes(model: ir.Model, made: ir.Model) -> None:
    """Gives nodes and values what was known of them, and what stands for a value its shape."""
    before = {str(value.name): value for node in model.graph for value in node.outputs}
    nodes = {str(node.name): node for node in model.graph}
    for node in made.graph:
        for value in node.outputs:
            known = before.get(str(value.name))
            if known is None:
                continue
            copy_note(known, value)
            value.type = known.type
            producer = known.producer()
            assert producer is not None
            notes = nodes.get(str(node.name), producer).metadata_props
            node.metadata_props.update(notes)
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
        copy_note(*((read, result) if result.shape is None else (result, read)))
        whole = node.op_type == "QuantizeLinear"
        integer, real = (result, read) if whole else (read, result)
        integer.type = ir.TensorType(point.const_value.dtype)
        real.type = ir.TensorType(ir.DataType.FLOAT)


def copy_note(source: ir.Value, to: ir.Value) -> None:
    """Gives a value without a shape that of another one, and what was noted of it."""
    if to.shape is None:
        to.shape = source.shape
        to.metadata_props.update(source.metadata_props)
