"""The least time that a graph can take on a board, before anything was built or measured.

The roofline model: a node takes as long as its arithmetic at the board's peak rate or its
traffic at the memory's bandwidth, whichever is longer (S. Williams, A. Waterman, D. Patterson,
"Roofline: an insightful visual performance model for multicore architectures", CACM 2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from skipc.compiler.errors import TargetError
from skipc.compiler.graph.costs import node_macs, shape_at_batch_one
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    import onnx_ir as ir

    from skipc.profiles import Board

ELEMENT_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}
"""Size of an element in memory, by precision; TF32 rounds within the arithmetic only."""

_COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_OPERATIONS_PER_MAC = 2


@dataclass(frozen=True, slots=True)
class Roofline:
    """What a graph takes at least.

    Attributes:
        compute_ms: All arithmetic at the peak rate.
        memory_ms: All traffic at the peak bandwidth.
        latency_ms: The sum over nodes of the longer of the two.
        limit: Which of the two takes longer in sum.
        macs: Multiply-accumulate operations of one run, of the whole batch.
        bytes: Traffic of one run.
    """

    compute_ms: float
    memory_ms: float
    latency_ms: float
    limit: Literal["compute", "memory"]
    macs: int
    bytes: int


def estimate(model: ir.Model, batch: int, board: Board, precision: str) -> Roofline:
    """Returns the roofline of a graph on a board. No weight is read, only shapes.

    Convolutions and matrix products are counted: each reads its weights once and its inputs
    and writes its output once per batch. Everything else is taken to be fused into them; what
    is in the branches of control flow is not seen.

    Args:
        model: The graph, with shapes.
        batch: The size of its dynamic batch; 1 where the graph's batch is fixed.
        board: Where it would run.
        precision: One of ``ELEMENT_BYTES``, for every node.

    Raises:
        TargetError: The board does not give a number, or the graph not a shape.
    """
    if batch < 1:
        raise TargetError(f"the batch is {batch}; at least 1 is expected.")
    macs_per_ms, bytes_per_ms = _rates(board, precision)
    nodes = [node for node in model.graph if node.op_type in _COUNTED]
    macs = [node_macs(node) * batch for node in nodes]
    traffic = [_elements(node, batch) * ELEMENT_BYTES[precision] for node in nodes]
    compute_ms = [count / macs_per_ms for count in macs]
    memory_ms = [count / bytes_per_ms for count in traffic]
    return Roofline(
        compute_ms=sum(compute_ms),
        memory_ms=sum(memory_ms),
        latency_ms=sum(map(max, compute_ms, memory_ms)),
        limit="compute" if sum(compute_ms) >= sum(memory_ms) else "memory",
        macs=sum(macs),
        bytes=sum(traffic),
    )


def _rates(board: Board, precision: str) -> tuple[float, float]:
    """Returns the board's multiply-accumulates and bytes in a millisecond."""
    if precision not in ELEMENT_BYTES:
        raise TargetError(
            f"unknown precision {precision!r}. {choices_text(precision, ELEMENT_BYTES)}"
        )
    if precision not in board.peak_tops:
        raise TargetError(
            f"the board {board.name!r} gives no peak_tops.{precision}."
            f" {choices_text(precision, board.peak_tops)} Write it into a profile of your own."
        )
    if board.bandwidth_gb_s is None:
        raise TargetError(
            f"the board {board.name!r} gives no bandwidth_gb_s. Write it into a profile of"
            " your own."
        )
    peak_per_s = board.peak_tops[precision].value * 1e12 / _OPERATIONS_PER_MAC
    return peak_per_s / 1e3, board.bandwidth_gb_s.value * 1e9 / 1e3


def _elements(node: ir.Node, batch: int) -> int:
    """Returns how many elements a node reads and writes; what has no batch, once."""
    total = 0
    for value in (*node.inputs, node.outputs[0]):
        if value is None:
            continue
        shape = shape_at_batch_one(value)
        if shape is None:
            raise TargetError(
                f"the shape of {value.name!r} at the node {node.name!r} is unknown, so its"
                " traffic is, too. Infer the graph's shapes first."
            )
        fixed = value.shape is not None and all(isinstance(dim, int) for dim in value.shape)
        total += math.prod(shape) * (1 if fixed else batch)
    return total
