"""Which operators compute in half precision, and in which types ONNX has their operands."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from skipc.compiler.graph.operands import operand

if TYPE_CHECKING:
    from skipc.compiler.graph.passes.half_tensors import HalfTensors

ISLANDS: dict[str, frozenset[str]] = {
    "sums over many elements lose the small ones": frozenset(
        {
            "CumSum", "DFT", "MelWeightMatrix", "ReduceL1", "ReduceL2", "ReduceLogSum",
            "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare", "STFT",
        }
    ),
    "a norm divides by the root of a sum of squares": frozenset(
        {
            "BatchNormalization", "GroupNormalization", "InstanceNormalization",
            "LRN", "LayerNormalization", "LpNormalization", "MeanVarianceNormalization",
            "RMSNormalization",
        }
    ),
    "results leave the range, or errors grow with the value": frozenset(
        {
            "Exp", "Log", "LogSoftmax", "Pow", "Reciprocal", "ReduceLogSumExp", "Softmax",
            "Softplus", "Sqrt",
        }
    ),
    "positions, angles and whole numbers need their last digit": frozenset(
        {
            "BlackmanWindow", "Ceil", "Cos", "EyeLike", "Floor", "HammingWindow",
            "HannWindow", "Mod", "Range", "RoiAlign", "Round", "Sin", "Tan",
        }
    ),
    "an order or a threshold is decided": frozenset(
        {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "TopK", "Unique"}
    ),
    "the scales of quantised numbers": frozenset(
        {"DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}
    ),
    "a constant that is an output": frozenset({"Constant"}),
}  # fmt: skip
"""Operators that stay float32, by the reason."""

_ISLAND_OPS = frozenset().union(*ISLANDS.values())

BFLOAT16_ISLANDS = frozenset({"ConvTranspose"})
"""What stays float32 in bf16 graphs: TensorRT-RTX 1.4 and 1.7 have no kernel for it."""

ANY_FLOAT = frozenset({"ArgMax", "ArgMin", "IsInf", "IsNaN", "NonZero", "Shape", "Size"})
"""Operators that read a tensor in whichever type it is there, and return no float."""

_WIDE_OPERANDS = {"GridSample": (1,), "Resize": (1, 2)}
"""Operands that are positions in the image: half precision moves them by pixels."""

_QUANTISING = frozenset({"DequantizeLinear", "QuantizeLinear"})


class HalfPolicy:
    """Decides for each node alone, so that all configurations decide the same."""

    def __init__(self, tensors: HalfTensors, opset: int) -> None:
        self._tensors = tensors
        self._opset = opset
        self._type = f"tensor({tensors.dtype.name.lower()})"
        bfloat16 = tensors.dtype == ir.DataType.BFLOAT16
        self._islands = _ISLAND_OPS | BFLOAT16_ISLANDS if bfloat16 else _ISLAND_OPS

    def computes_in_half(self, node: ir.Node, operands: list[int]) -> bool:
        """Tells whether what is float32 of a node becomes half; ``operands`` are such ones."""
        if not is_plain(node) or node.op_type in self._islands:
            return False
        if node.op_type in _QUANTISING and not self._scale_fits(node):
            return False
        outputs = [i for i, value in enumerate(node.outputs) if is_float32(value)]
        if outputs:
            allowed = self.takes(node, outputs[0], "outputs")
        else:
            allowed = bool(operands) and self.takes(node, operands[0], "inputs")
        return (
            allowed
            and self._attribute_fits(node)
            and all(
                self._operand_fits(node, i) for i in operands if self.operand_in_half(node, i)
            )
        )

    def operand_in_half(self, node: ir.Node, place: int) -> bool:
        """Tells whether an operand of a node that computes in half is half, too."""
        wide = _WIDE_OPERANDS.get(node.op_type, ())
        return place not in wide and self.takes(node, place, "inputs")

    def takes(self, node: ir.Node, place: int, side: str) -> bool:
        """Tells whether one of a node's ``inputs`` or ``outputs`` may be half."""
        return self._type in _types(node.op_type, self._opset, side, place)

    def _operand_fits(self, node: ir.Node, place: int) -> bool:
        value = operand(node, place)
        tensor = value.const_value
        return tensor is None or self._tensors.cast(tensor, str(value.name)) is not None

    def _scale_fits(self, node: ir.Node) -> bool:
        scale = node.inputs[1]
        if scale is None or scale.const_value is None or "output_dtype" in node.attributes:
            return False
        return self._tensors.is_normal(scale.const_value)

    def _attribute_fits(self, node: ir.Node) -> bool:
        if node.op_type != "ConstantOfShape" or "value" not in node.attributes:
            return True
        tensor = node.attributes["value"].as_tensor()
        return self._tensors.cast(tensor, str(node.outputs[0].name)) is not None


def is_float32(value: ir.Value | None) -> bool:
    """Tells whether ``value`` is a float32 tensor."""
    return (
        value is not None
        and isinstance(value.type, ir.TensorType)
        and value.dtype == ir.DataType.FLOAT
    )


def is_plain(node: ir.Node) -> bool:
    """Tells whether ``node`` is an operator of ONNX on tensors, without subgraphs."""
    graphs = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return (
        node.domain in ("", "ai.onnx")
        and not any(attribute.type in graphs for attribute in node.attributes.values())
        and not any(
            value is not None and isinstance(value.type, (ir.SequenceType, ir.OptionalType))
            for value in (*node.inputs, *node.outputs)
        )
    )


@cache
def _types(op_type: str, opset: int, side: str, place: int) -> frozenset[str]:
    """Returns what ONNX allows at a place of an operator; nothing for an unknown one."""
    import onnx

    try:
        schema: Any = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return frozenset()
    formal = schema.inputs if side == "inputs" else schema.outputs
    # The last one may stand for any number.
    return frozenset(formal[min(place, len(formal) - 1)].types)
