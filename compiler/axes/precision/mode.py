"""The floating-point type that a family computes in: what may be asked for, what is there."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.errors import SupernetError, TargetError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Precision(Enum):
    """What a network's layers compute in; inputs and outputs keep their own types."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    @property
    def dtype(self) -> ir.DataType:
        """ONNX's element type."""
        return _DTYPES[self.value]

    @property
    def is_half(self) -> bool:
        """Whether float32 layers have to be cast to it."""
        return self is not Precision.FP32


_DTYPES = {
    "fp32": ir.DataType.FLOAT,
    "fp16": ir.DataType.FLOAT16,
    "bf16": ir.DataType.BFLOAT16,
    "fp64": ir.DataType.DOUBLE,
}

_ADVICE = {
    Precision.FP16: "--precision bf16 (the range of float32) or fp32",
    Precision.BF16: "--precision fp16 (8 times as fine, up to 65504) or fp32",
}


def check_precision(precision: Precision, allowed: Sequence[str], target: str) -> None:
    """Checks that a target computes in ``precision``.

    Args:
        precision: What was asked for.
        allowed: What the target computes in; empty where it does not say.
        target: Its name.

    Raises:
        TargetError: It does not; the message names what is available.
    """
    if allowed and precision.value not in allowed:
        possible = [each.value for each in Precision if each.value in allowed]
        raise TargetError(
            f"--precision {precision.value}: the target {target!r} does not compute in it, but"
            f" in {' and '.join(possible)}. A profile of your own may name fewer GPUs and more"
            " precisions (docs/profiles.md)."
        )


def check_castable(model: ir.Model, precision: Precision) -> None:
    """Checks that ``model`` can be had in ``precision``.

    Raises:
        SupernetError: It computes in another half precision already, or in one where
            float32 is asked for.
    """
    asked = {Precision.FP32.dtype, precision.dtype}
    halves = {Precision.FP16.dtype, Precision.BF16.dtype}
    others = sorted(
        name for name, t in _DTYPES.items() if t in (types_in(model) & halves) - asked
    )
    if others:
        raise SupernetError(
            f"--precision {precision.value}: the network computes in {others[0]} itself, and"
            " what that rounded away does not come back. Leave --precision out, or give the"
            " float32 checkpoint."
        )


def graph_precision(model: ir.Model) -> str:
    """Returns what a graph computes in: a precision's name, ``fp64``, or ``mixed``."""
    found = [name for name, dtype in _DTYPES.items() if dtype in types_in(model)]
    return found[0] if len(found) == 1 else "mixed"


def types_in(model: ir.Model) -> set[ir.DataType]:
    """Returns the floating-point types of a graph's tensors, what Casts return left out."""
    found: set[ir.DataType | None] = set()
    for graph in model.graphs():
        found |= {value.dtype for value in (*graph.inputs, *graph.initializers.values())}
    for node in model.graph.all_nodes():
        if node.op_type != "Cast":
            found |= {value.dtype for value in node.outputs}
    return {dtype for dtype in found if dtype is not None and dtype.is_floating_point()}


def advice(precision: Precision | None) -> str:
    """Returns a sentence for the error of a subnet that differs, "" for float32."""
    if precision not in _ADVICE:
        return ""
    return f" It computes in {precision.value}: try {_ADVICE[precision]}."
