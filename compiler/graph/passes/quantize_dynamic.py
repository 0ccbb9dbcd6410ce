"""int8 products whose activations are quantised by the range that each call has itself.

DynamicQuantizeLinear finds the range of what a product reads, all rows of a call together, and
MatMulInteger multiplies integers. ONNX Runtime's own quantiser inserts the nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.errors import SupernetError
from skipc.compiler.extras import require
from skipc.compiler.graph.int8_layers import mostly_convolutions, staying
from skipc.compiler.graph.passes.quantize import copy_note, quantiser

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from skipc.compiler.targets.options import Int8Form

_TYPES = {
    "DynamicQuantizeLinear": (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8),
    "MatMulInteger": (ir.DataType.INT32,),
    "Cast": (ir.DataType.FLOAT,),
    "Mul": (ir.DataType.FLOAT,),
}


class QuantizeDynamicPass(ir.passes.FunctionalPass):
    """Returns a graph that computes matrix products with weights in int8.

    Values keep their names; weights are int8 per channel, as those of ``QuantizePass``.

    Args:
        form: How the target wants int8.
        floating: The layers that stay float32, or modules that hold several.

    Raises:
        SupernetError: The network is one of convolutions, or as for ``QuantizePass``.
    """

    def __init__(self, form: Int8Form, floating: Sequence[str] = ()) -> None:
        super().__init__()
        self._form, self._floating = form, floating

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantises a copy of the graph."""
        if mostly_convolutions(model.graph):
            raise SupernetError(
                "int8-dynamic: most of the network's arithmetic is convolutions, which ONNX"
                " Runtime computes more slowly so than in float32. Use --precision int8 with"
                " --calibrate DATA."
            )
        quantization = require("onnxruntime.quantization", "compiler")
        stay = [str(node.name) for node in staying(model.graph, self._floating)]
        onnx = require("onnx", "finish")
        with quantiser(model) as source:
            written = source.with_name("int8.onnx")
            quantization.quantize_dynamic(
                _without_weights_shapes(onnx.load(str(source))),
                written,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                reduce_range=self._form.seven_bits,
                weight_type=quantization.QuantType.QInt8,
                # It makes a product and a sum of a Gemm first.
                nodes_to_exclude=[*stay, *(f"{name}_MatMul" for name in stay)],
                use_external_data_format=True,
            )
            # Read from memory: the folder goes.
            made = ir.from_proto(onnx.load(str(written)))
        made.ir_version = model.ir_version
        _copy_notes(model, made)
        return ir.passes.PassResult(made, modified=True)


def _without_weights_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a graph that notes no weight's shape, which the quantiser turns over."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    left = [value for value in proto.graph.value_info if value.name not in weights]
    proto.graph.ClearField("value_info")
    proto.graph.value_info.extend(left)
    return proto


def _copy_notes(model: ir.Model, made: ir.Model) -> None:
    """Gives nodes and values what was known of them, and what is new its type and shape."""
    before = {str(value.name): value for node in model.graph for value in node.outputs}
    for node in made.graph:
        for value, dtype in zip(node.outputs, _TYPES.get(node.op_type, ()), strict=False):
            value.type = value.type or ir.TensorType(dtype)
        for value in node.outputs:
            known = before.get(str(value.name))
            if known is not None:
                copy_note(known, value)
                value.type = known.type
                producer = known.producer()
                assert producer is not None
                node.metadata_props.update(producer.metadata_props)
    for node in made.graph:
        if node.op_type == "DynamicQuantizeLinear":
            assert node.inputs[0] is not None
            copy_note(node.inputs[0], node.outputs[0])
    # A product's result is scaled in steps, of which the last one has its name.
    for node in reversed(made.graph):
        read = node.inputs[0] if node.op_type in ("Add", "Cast", "Mul") else None
        maker = None if read is None else read.producer()
        if read is None or maker is None or read.shape is not None:
            continue
        if node.outputs[0].shape is not None:
            copy_note(node.outputs[0], read)
            maker.metadata_props.update(node.metadata_props)
