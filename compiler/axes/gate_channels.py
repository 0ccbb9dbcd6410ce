"""Channels within a unit's branch, in parts that a gate decides about one after the other.

They are those that the branch's last convolution reads. Without some of them the branch is the
sum of what the others come to, so each part is a small branch of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.unit_rules import is_addition
from skipc.compiler.axes.width import importance
from skipc.compiler.axes.width_groups import find_groups, step_of
from skipc.compiler.errors import GatesError
from skipc.compiler.gating import Inner
from skipc.compiler.graph.batch_norms import is_norm
from skipc.compiler.graph.operands import operand

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.axes.width_groups import Group
    from skipc.compiler.network import Network


@dataclass(frozen=True, slots=True)
class InnerChannels:
    """The channels that the last layer of a unit's branch reads.

    Attributes:
        unit: The unit.
        group: They, with all that makes, passes on and mixes them.
    """

    unit: Unit
    group: Group

    @property
    def inner(self) -> Inner:
        """Where they lie when that layer reads them."""
        (carrier,) = self.group.read
        return Inner(carrier.value, carrier.axis)

    def takes(self, parts: NDArray[np.int64]) -> bool:
        """Tells whether these are parts of all of them, in blocks that engines compute."""
        whole = len(parts) == self.group.channels
        return whole and not (np.bincount(parts) % self.group.step).any()

    def macs(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Returns what is computed for each part of so many channels.

        What of the unit is not in proportion to them is the first one's.
        """
        further = [round(self.group.macs * size / self.group.channels) for size in sizes[1:]]
        return (self.unit.macs - sum(further), *further)


class BranchChannels:
    """Finds them in a network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._nodes = {str(node.outputs[0].name): node for node in network.model.graph}
        groups, _ = find_groups(network.model)
        self._mixed = {each.node: group for group in groups for each in group.mixed}

    def of(self, unit: Unit) -> InnerChannels:
        """Returns the channels within a unit's branch.

        Raises:
            GatesError: A gate cannot tell them apart.
        """
        join = self._nodes[unit.join]
        value = operand(join, 1 - unit.shortcut)
        last = value.producer()
        while last is not None and is_norm(last):
            value = operand(last, 0)
            last = value.producer()
        added = is_addition(join) and len(value.uses()) == 1
        if last is None or last.op_type != "Conv" or not added:
            raise GatesError(
                f"no gate can tell apart the channels of {unit.name!r}: its branch ends in"
                f" {'an input' if last is None else last.op_type}, expected a convolution and"
                " its norm."
            )
        group = self._mixed.get(str(last.outputs[0].name))
        if group is None or len(group.mixed) > 1 or len(operand(last, 0).uses()) > 1:
            what = "grouped, or of the residual stream"
            if group is not None:
                what = "read by several layers, as squeeze-and-excite does"
            raise GatesError(
                f"no gate can tell apart the channels of {unit.name!r}: those that its last"
                f" convolution reads are {what}."
            )
        found = InnerChannels(unit, group)
        if not self._network.reference.can_narrow(found.inner.value):
            raise GatesError(
                f"no gate can tell apart the channels of {unit.name!r}:"
                f" {self._network.reference.name} has them within another operator."
            )
        return found

    def parts(self, found: InnerChannels, most: int) -> NDArray[np.int64]:
        """Returns by channel the number of its part, the most important ones in the first.

        Args:
            found: The channels.
            most: How many parts there are at most.

        Raises:
            GatesError: There cannot be two.
        """
        channels = found.group.channels
        numbers = part_numbers(channels, most)
        if not numbers.any():
            raise GatesError(
                f"no gate can tell apart the channels of {found.unit.name!r}: {channels} of"
                f" them have no parts of {step_of(channels)} or a multiple, the blocks that"
                " engines compute in."
            )
        order = np.argsort(-importance(found.group, self._network.model), kind="stable")
        parts = np.empty(channels, np.int64)
        parts[order] = numbers
        return parts


def part_numbers(channels: int, most: int) -> NDArray[np.int64]:
    """Returns by channel, the first ones first, the number of its part: ``most`` at most.

    Parts are of whole blocks, as many in each as can be; all zeros where there are no two.
    """
    blocks, rest = divmod(channels, step_of(channels))
    if rest or not blocks:
        return np.zeros(channels, np.int64)
    return np.arange(channels) * blocks // channels * min(most, blocks) // blocks


def most_parts(channels: Iterable[int]) -> int:
    """Returns in how many parts the channels of some branch can be told apart."""
    return max(
        (1 + int(part_numbers(each, each).max(initial=0)) for each in channels), default=1
    )
