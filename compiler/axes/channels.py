"""Channels that were followed: where they lie in tensors, and what makes and mixes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray


class PerChannel(NamedTuple):
    """A constant operand with an entry for each channel.

    Attributes:
        node: The node that reads it, by the name of its first output.
        operand: Which of its operands.
        axis: The operand's dimension that the channels lie in.
        outer: How often all of them follow each other there.
        inner: How many entries of one lie side by side: those of a head.
    """

    node: str
    operand: int
    axis: int
    outer: int = 1
    inner: int = 1

    def entries(self, channels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns the entries along the axis that some of the channels have."""
        return np.tile(np.repeat(channels, self.inner), self.outer)


class Carrier(NamedTuple):
    """A tensor with channels, by its name, and where they lie; as ``PerChannel`` says."""

    value: str
    axis: int
    outer: int = 1
    inner: int = 1

    def entries(self, channels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns the entries along the axis that some of the channels have."""
        return np.tile(np.repeat(channels, self.inner), self.outer)


@dataclass(eq=False, slots=True)
class Channels:
    """Channels while they are followed: ``Group`` says what is what.

    Attributes:
        reason: Why they cannot be followed to an end; "" while they can.
        size: Channels of each head, where heads are followed.
    """

    channels: int
    makers: list[ir.Node]
    made: list[PerChannel]
    passed: list[PerChannel] = field(default_factory=list)
    mixed: list[PerChannel] = field(default_factory=list)
    mixers: list[ir.Node] = field(default_factory=list)
    carriers: list[Carrier] = field(default_factory=list)
    read: list[Carrier] = field(default_factory=list)
    depthwise: list[ir.Node] = field(default_factory=list)
    sizes: list[PerChannel] = field(default_factory=list)
    norms: list[ir.Node] = field(default_factory=list)
    entries: int = 0
    reason: str = ""
    size: int = 1

    def join(self, other: Channels) -> None:
        """Takes what another one holds: their channels stay and go together."""
        self.makers += other.makers
        self.made += other.made
        self.passed += other.passed
        self.mixed += other.mixed
        self.mixers += other.mixers
        self.carriers += other.carriers
        self.read += other.read
        self.depthwise += other.depthwise
        self.sizes += other.sizes
        self.norms += other.norms
        self.entries += other.entries
        self.reason = self.reason or other.reason


def entries(node: ir.Node, own: Sequence[PerChannel]) -> int:
    """Returns how many parameters those operands have; statistics are none."""
    values = [
        node.inputs[each.operand]
        for each in own
        if node.op_type != "BatchNormalization" or each.operand < 3
    ]
    tensors = [value.const_value for value in values if value is not None]
    return sum(tensor.size for tensor in tensors if tensor is not None)
