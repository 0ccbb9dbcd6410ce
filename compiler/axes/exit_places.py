"""Where heads may go: the stream after each unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.axes.units import units_of_network
from skipc.compiler.errors import HeadsError
from skipc.compiler.graph.costs import total_macs
from skipc.compiler.graph.index import ACTIVATION_OPS, WEIGHTED_OPS, GraphIndex

if TYPE_CHECKING:
    import onnx_ir as ir

    from skipc.compiler.network import Network

_FOLLOWED = ACTIVATION_OPS | {"BatchNormalization", "LayerNormalization"}
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
        axis = _channel_axis(value, network)
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


def _channel_axis(value: ir.Value, network: Network) -> int | None:
    """Returns the dimension of the channels; None where the tensor has no row per sample."""
    shape, rows = value.shape, network.outputs[0].shape[0]
    if shape is None or len(shape) < 2:
        return None
    first = shape[0]
    if (first if isinstance(first, int) else str(first)) != rows:
        return None
    if len(shape) == 2:
        return 1
    sizes = list(shape)
    if len(sizes) == 4 and (sizes[2] == sizes[3]) != (sizes[1] == sizes[2]):
        return 1 if sizes[2] == sizes[3] else 3
    return 1 if _last_weighted(value).startswith("Conv") else len(sizes) - 1


def _last_weighted(value: ir.Value) -> str:
    """Returns the operator of the nearest weights before a value; "" for none."""
    pending, seen = [value.producer()], set()
    while pending:
        node = pending.pop(0)
        if node is None or node in seen:
            continue
        if node.op_type in WEIGHTED_OPS:
            return node.op_type
        seen.add(node)
        pending += [each.producer() for each in node.inputs if each is not None]
    return ""
