"""Where heads may go: the stream after each unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.axes.units import units_of_network
from skipc.compiler.errors import HeadsError
from skipc.compiler.graph.costs import total_macs
from skipc.compiler.graph.index import ACTIVATION_OPS, GraphIndex

if TYPE_CHECKING:
    import onnx_ir as ir

    from skipc.compiler.network import Network

_FOLLOWED = ACTIVATION_OPS | {"BatchNormalization", "LayerNormalization"}
_CHANNELS_FIRST = frozenset({
    "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool", "GroupNormalization",
    "InstanceNormalization",
})  # fmt: skip
_CHANNELS_LAST = frozenset({"Gemm", "LayerNormalization", "MatMul", "RMSNormalization"})
_LAST_SHARE = 0.98
"""A head that needs so much of the network's work is no shorter way."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a head may go.

    Attributes:
        name: The unit's that it comes after.
        at: The tensor that it reads, by name.
        axis: The tensor's dimension that the channels lie in.
        channels: How many.
        macs: Operations of the network up to there, batch 1.
    """

    name: str
    at: str
    axis: int
    channels: int
    macs: int


def places_of(network: Network) -> tuple[Place, ...]:
    """Returns where heads may go, in network order.

    Raises:
        HeadsError: The network's answer is not a score for each class.
    """
    check_answer(network)
    model = network.model
    index = GraphIndex(model.graph)
    made = {str(value.name): value for node in model.graph for value in node.outputs}
    whole = total_macs(index.nodes)
    places = []
    for unit in units_of_network(network).units:
        if unit.within:
            continue
        value = _stream_after(made[unit.join])
        axis = channel_axis(value, network)
        if axis is None or value.shape is None:
            continue
        macs = total_macs(index.members(index.ancestors(value)))
        channels = value.shape[axis]
        if isinstance(channels, int) and macs < _LAST_SHARE * whole:
            places.append(Place(unit.name, str(value.name), axis, channels, macs))
    return tuple(places)


def check_answer(network: Network) -> None:
    """Raises ``HeadsError`` unless a network gives one score for each class."""
    if network.switching is not None:
        raise HeadsError(
            f"{network.description} switches its own parts, so no head can be attached."
        )
    (first, *more) = network.outputs
    if more or len(first.shape) != 2 or not first.dtype.startswith("float"):
        found = ", ".join(f"{spec.name!r}, {spec.kind}" for spec in network.outputs)
        raise HeadsError(
            "early exits need a network with one output, a score for each class (rows,"
            f" classes); this one has {found}. Choose one with --output, if it is there."
        )


def _stream_after(value: ir.Value) -> ir.Value:
    """Returns the stream after a join: what an activation or norm makes of it, if all goes in.

    Read before it, the join could not be computed together with it.
    """
    users = value.consumers()
    if len(users) == 1 and users[0].op_type in _FOLLOWED and not value.is_graph_output():
        return users[0].outputs[0]
    return value


def channel_axis(value: ir.Value, network: Network) -> int | None:
    """Returns the dimension of the channels; None where the tensor has no row per sample."""
    shape, rows = value.shape, network.outputs[0].shape[0]
    if shape is None or len(shape) < 2:
        return None
    first = shape[0]
    if (first if isinstance(first, int) else str(first)) != rows:
        return None
    return _read_axis(value, list(range(len(shape))))


def _read_axis(value: ir.Value, axes: list[int]) -> int:
    """Returns the dimension that the first layer or norm that reads a value mixes or scales.

    Args:
        value: The value.
        axes: By its dimension the one that it was in the tensor that is asked about.
    """
    pending, seen = [(value, axes)], {value}
    while pending:
        value, axes = pending.pop(0)
        for node, operand in value.uses():
            if node.op_type in _CHANNELS_FIRST and operand == 0:
                return axes[1]
            if node.op_type in _CHANNELS_LAST and operand == 0:
                return axes[-1]
            result = node.outputs[0]
            if node.op_type == "Transpose":
                places = node.attributes.get_ints("perm", tuple(reversed(range(len(axes)))))
                after = [axes[place] for place in places]
            elif result.shape is not None and result.shape == value.shape:
                after = axes
            else:
                continue
            if result not in seen:
                seen.add(result)
                pending.append((result, after))
    return len(axes) - 1 if len(axes) == 3 else 1
