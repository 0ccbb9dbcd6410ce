"""Concatenations: what their channels are made of, and everything that ever sees them.

The channels of a concatenation are followed as those of a layer are: through all that treats
each alone, to the layers that mix them. Another concatenation takes them along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.channel_paths import ChannelPaths
from skipc.compiler.axes.channels import Channels
from skipc.compiler.axes.width_groups import group_of
from skipc.compiler.graph.index import module_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.axes.width_groups import Group


@dataclass(frozen=True, slots=True)
class Concatenation:
    """The channels that a concatenation makes.

    Attributes:
        name: The name of its result.
        operands: What is concatenated, by name; "" where there is none.
        sizes: How many channels each operand has.
        group: The channels, with all that carries, scales and mixes them.
        reason: Why they cannot be fewer; "" where they can.
    """

    name: str
    operands: tuple[str, ...]
    sizes: tuple[int, ...]
    group: Group
    reason: str


@dataclass(frozen=True, slots=True)
class Concatenations:
    """The concatenations of a graph, by name, in network order."""

    by_name: Mapping[str, Concatenation]

    @property
    def widest(self) -> int:
        """The channels of the widest one."""
        return max((sum(each.sizes) for each in self.by_name.values()), default=0)

    def spread(self, given: Mapping[str, int], default: int) -> dict[str, NDArray[np.intp]]:
        """Returns a number for each channel of each concatenation.

        Args:
            given: The number of every channel of an operand, by its name.
            default: That of all other operands' channels, but where these are a further
                concatenation's.
        """
        found: dict[str, NDArray[np.intp]] = {}
        carried: dict[str, NDArray[np.intp]] = {}
        for each in self.by_name.values():
            parts = [
                np.full(size, given[name]) if name in given else carried.get(name)
                for name, size in zip(each.operands, each.sizes, strict=True)
            ]
            if each.reason:
                parts = [None] * len(parts)
            found[each.name] = np.concatenate(
                [
                    np.full(size, default) if part is None else part
                    for part, size in zip(parts, each.sizes, strict=True)
                ]
            )
            for carrier in each.group.carriers:
                carried[carrier.value] = found[each.name]
        return found


def find_concatenations(model: ir.Model) -> Concatenations:
    """Returns the concatenations of ``model``, topologically sorted, with constant sizes."""
    if all(node.op_type != "Concat" for node in model.graph):
        return Concatenations({})
    paths = _Paths(model.graph)
    for node in model.graph:
        paths.follow(node)
    for value in model.graph.outputs:
        paths.refuse(value, "an output of the network has them")
    found: dict[str, Concatenation] = {}
    # What stands behind is known first: a reason there is one here, too.
    for node, sizes in reversed(paths.concatenations.items()):
        channels = paths.of(node)
        inner = (found[name].reason for name in paths.behind(channels) if name in found)
        reason = channels.reason or next(filter(None, inner), "")
        found[_name(node)] = Concatenation(
            _name(node),
            tuple("" if value is None else str(value.name) for value in node.inputs),
            sizes,
            group_of(_name(node), channels),
            reason,
        )
    return Concatenations(dict(reversed(found.items())))


class _Paths(ChannelPaths):
    """Follows channels from concatenations, too.

    Attributes:
        concatenations: Those that were met, in network order, with their operands' sizes.
    """

    def __init__(self, graph: ir.Graph) -> None:
        super().__init__(graph)
        self.concatenations: dict[ir.Node, tuple[int, ...]] = {}
        self._into: dict[ir.Node, list[ir.Value]] = {}

    def follow(self, node: ir.Node) -> None:
        """Follows channels through a node, and those that it makes."""
        if node.op_type != "Concat" or node.domain not in ("", "ai.onnx"):
            super().follow(node)
            return
        shape = node.outputs[0].shape
        axis = node.attributes.get_int("axis", 0)
        if shape is None:
            super().follow(node)
            return
        axis %= len(shape)
        sizes = [_size(value, axis) for value in node.inputs]
        for value in node.inputs:
            if value is not None and value in self._at:
                found, place = self._of(value)
                if place == axis and self._is_concatenated(found) and None not in sizes:
                    self._into.setdefault(node, []).append(value)
                else:
                    self.refuse(value, _meets(node))
        known = tuple(size for size in sizes if size is not None)
        if len(known) == len(sizes) and not self._index.is_constant(node.outputs[0]):
            made = Channels(sum(known), [node], [])
            self._all.append(made)
            self._carry(node, made, axis)
            self.concatenations[node] = known

    def of(self, node: ir.Node) -> Channels:
        """Returns the channels of a concatenation, followed to their ends."""
        return self._of(node.outputs[0])[0]

    def behind(self, channels: Channels) -> list[str]:
        """Returns the concatenations that take these channels along, by name."""
        return [
            _name(node)
            for node, values in self._into.items()
            if any(self._of(value)[0] is channels for value in values)
        ]

    def _is_concatenated(self, found: Channels) -> bool:
        return any(node in self.concatenations for node in found.makers)

    def _unite(self, first: Channels, second: Channels) -> None:
        """What two concatenations have beside each other cannot be fewer in one of them."""
        both = first is not second
        both = both and self._is_concatenated(first) and self._is_concatenated(second)
        super()._unite(first, second)
        if both:
            reason = "two concatenations meet, channel by channel"
            for each in (first, second):
                each.reason = each.reason or reason


def _size(value: ir.Value | None, axis: int) -> int | None:
    """Returns the size of an operand along a dimension; None where it is not known."""
    if value is None or value.shape is None:
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def _meets(node: ir.Node) -> str:
    where = module_path(node)
    return f"they meet the operator Concat{f' in module {where!r}' if where else ''}"


def _name(node: ir.Node) -> str:
    return str(node.outputs[0].name)
