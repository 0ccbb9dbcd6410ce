"""Casting every subnet of a family alike, each tensor once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, final

from skipc.compiler.axes.precision.mode import Precision, check_castable, types_in
from skipc.compiler.axes.precision.tensors import HalfTensors, KeptTensor
from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.passes.cast_precision import CastPrecisionPass

if TYPE_CHECKING:
    import onnx_ir as ir

    from skipc.compiler.subnets import Subnet

_BF16_OPSET = 22
"""The first in which ONNX has Conv and pooling in bfloat16."""

_OLDEST_RAISED_OPSET = 18
_IR_VERSION = 10
"""The first that goes with ``_BF16_OPSET``."""


@final
class PrecisionCaster:
    """Puts one precision into the graphs of one build.

    What is decided for a node or tensor depends on nothing else in the graph, and a tensor
    that several subnets share is cast once: they refer to the same bytes.

    Args:
        precision: What to compute in; None leaves every graph as it is.
    """

    def __init__(self, precision: Precision | None) -> None:
        self.precision = precision
        self._tensors = (
            HalfTensors(precision.dtype)
            if precision is not None and precision.is_half
            else None
        )

    @property
    def kept(self) -> tuple[KeptTensor, ...]:
        """The tensors that stay float32 because they do not fit."""
        return () if self._tensors is None else self._tensors.kept

    def subnet(self, subnet: Subnet) -> Subnet:
        """Returns ``subnet`` in the precision; its graph is changed in place.

        Raises:
            SupernetError: The graph's operators or types do not allow it.
        """
        return replace(subnet, model=self.model(subnet.model))

    def model(self, model: ir.Model) -> ir.Model:
        """Returns ``model`` in the precision; it is changed in place.

        Raises:
            SupernetError: The graph's operators or types do not allow it.
        """
        if self.precision is None:
            return model
        check_castable(model, self.precision)
        if self._tensors is None or Precision.FP32.dtype not in types_in(model):
            return model
        if self.precision is Precision.BF16:
            _raise_opset(model)
        CastPrecisionPass(self._tensors)(model)
        return model


def _raise_opset(model: ir.Model) -> None:
    """Raises the version of ONNX's operators to the first that all know bfloat16."""
    opset = model.graph.opset_imports.get("", _BF16_OPSET)
    if opset >= _BF16_OPSET:
        return
    if opset < _OLDEST_RAISED_OPSET:
        raise SupernetError(
            f"--precision bf16: the graph is written in ONNX opset {opset}, where most"
            f" operators have no bfloat16. Export it with opset {_BF16_OPSET} (or at least"
            f" {_OLDEST_RAISED_OPSET}), or use --precision fp16."
        )
    from onnxscript.version_converter import ConvertVersionPass

    ConvertVersionPass(_BF16_OPSET)(model)
    model.ir_version = max(model.ir_version or 0, _IR_VERSION)
