"""Finding groups: channels inside of a network that may be fewer.

Channels are followed from the layer that makes them to the layers that mix them, through all
that treats each channel alone (a dependency graph: Fang et al., DepGraph, 2023). They are a
group where nothing else ever sees them, so that without some of them the rest is the same.
What meets a residual sum, a concatenation or an output is none. Heads of attention are groups
of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.axes.channel_paths import ChannelPaths
from skipc.compiler.axes.head_paths import find_heads
from skipc.compiler.graph.costs import node_macs
from skipc.compiler.graph.index import module_path, numbered

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from skipc.compiler.axes.channels import Carrier, Channels, PerChannel

BLOCK = 16
"""Channels that engines compute at once."""

SPLIT = 128
"""So many are split between configurations. Fewer are few bytes, and more kernels take longer:
of 64 channels three parts cost 4 % of the time and saved 3 % of the bytes."""


@dataclass(frozen=True, slots=True)
class Group:
    """Channels, or heads of attention, that may be fewer.

    Attributes:
        name: The module path of the layer that makes them.
        channels: How many there are; of heads, how many heads.
        made: Weights and biases of the layers that make them.
        passed: What scales, shifts or filters each of them alone.
        mixed: Weights of the layers that mix them.
        carriers: The tensors that they lie in.
        read: Those of them that the mixing layers read.
        depthwise: Convolutions with a group for each channel, by their first outputs.
        sizes: Constant shapes that name how many they are: ``axis`` is the place there.
        norms: Batch norms that they go through, by their outputs, in network order.
        working: Layers whose operations are in proportion to their number, by their first
            outputs; one that is in proportion twice stands here twice.
        parameters: Entries of all those constants.
        macs: Operations of all those layers.
        size: Channels of each head; 1 where they are channels.
    """

    name: str
    channels: int
    made: tuple[PerChannel, ...]
    passed: tuple[PerChannel, ...]
    mixed: tuple[PerChannel, ...]
    carriers: tuple[Carrier, ...]
    read: tuple[Carrier, ...]
    depthwise: tuple[str, ...]
    sizes: tuple[PerChannel, ...]
    norms: tuple[str, ...]
    working: tuple[str, ...]
    parameters: int
    macs: int
    size: int = 1

    @property
    def kind(self) -> str:
        """What they are."""
        return "channels" if self.size == 1 else "heads"

    @property
    def step(self) -> int:
        """What their number is a multiple of."""
        return 1 if self.size > 1 else step_of(self.channels)

    @property
    def counts(self) -> range:
        """How many may stay, but for all."""
        return range(self.step, self.channels, self.step)


def step_of(channels: int) -> int:
    """Returns what a number of some of these channels is a multiple of."""
    return BLOCK if channels >= 2 * BLOCK else 4


def find_groups(model: ir.Model) -> tuple[tuple[Group, ...], Mapping[str, str]]:
    """Returns the groups in network order, and by name why other channels are none."""
    paths = ChannelPaths(model.graph)
    for node in model.graph:
        paths.follow(node)
    for value in model.graph.outputs:
        paths.refuse(value, "an output of the network has them")
    heads = list(find_heads(model.graph))
    makers = {node for each in heads for node in each.makers}
    order = {node: number for number, node in enumerate(model.graph)}
    found = [each for each in paths.found if makers.isdisjoint(each.makers)]
    found = sorted([*found, *heads], key=lambda each: order[each.makers[0]])
    names = numbered([module_path(each.makers[0]) or _name(each.makers[0]) for each in found])
    groups, refused = [], {}
    for name, each in zip(names, found, strict=True):
        if each.reason:
            refused[name] = each.reason
        elif each.mixed:
            groups.append(group_of(name, each))
    return tuple(groups), refused


def group_of(name: str, found: Channels) -> Group:
    """Returns the group of channels that were followed to their ends."""
    working = (*found.makers, *found.depthwise, *found.mixers)
    return Group(
        name=name,
        channels=found.channels,
        made=tuple(found.made),
        passed=tuple(found.passed),
        mixed=tuple(found.mixed),
        carriers=tuple(found.carriers),
        read=tuple(dict.fromkeys(found.read)),
        depthwise=tuple(map(_name, found.depthwise)),
        sizes=tuple(found.sizes),
        norms=tuple(map(_name, found.norms)),
        working=tuple(map(_name, working)),
        parameters=found.entries,
        macs=sum(map(node_macs, set(working))),
        size=found.size,
    )


def _name(node: ir.Node) -> str:
    return str(node.outputs[0].name)
