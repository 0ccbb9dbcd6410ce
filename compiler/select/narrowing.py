"""Counting what goes with channels, without making narrow graphs."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx_ir as ir

    from skipc.compiler.axes.width import Widths
    from skipc.compiler.axes.width_groups import Group

    Shares = Mapping[str, Fraction]
    """What share of its channels stays, by group; one that is missing is whole."""


@dataclass(slots=True)
class _Trained:
    """Trained numbers that some nodes read, of which some go with the channels of groups."""

    size: int
    nodes: set[str] = field(default_factory=set)
    groups: dict[tuple[str, int], None] = field(default_factory=dict)


class Narrowing:
    """What the operations and parameters of a graph depend on.

    Args:
        graph: The graph.
        groups: Its groups of channels, by name.
    """

    def __init__(self, graph: ir.Graph, groups: Mapping[str, Group]) -> None:
        nodes = {str(node.outputs[0].name): node for node in graph}
        self._working: dict[ir.Node, list[str]] = {}
        self._trained: dict[ir.Value, _Trained] = {}
        for key, group in groups.items():
            for name in group.working:
                if name in nodes:
                    self._working.setdefault(nodes[name], []).append(key)
            for one in (*group.made, *group.passed, *group.mixed):
                node = nodes.get(one.node)
                if node is None or (node.op_type == "BatchNormalization" and one.operand > 2):
                    continue
                value = node.inputs[one.operand]
                tensor = None if value is None else value.const_value
                if value is None or tensor is None or not tensor.dtype.is_floating_point():
                    continue
                if value.is_initializer():
                    found = self._trained.setdefault(value, _Trained(tensor.size))
                    found.nodes.add(one.node)
                    found.groups[key, one.axis] = None

    def macs(self, full: Mapping[ir.Node, int], shares: Shares) -> Mapping[ir.Node, int]:
        """Returns the operations of each node; ``full`` has those at full width."""
        if not shares:
            return full
        found = dict(full)
        for node, groups in self._working.items():
            macs = Fraction(full[node])
            for group in groups:
                macs *= shares.get(group, 1)
            found[node] = round(macs)
        return found

    def parameters(self, live: Iterable[ir.Node], shares: Shares) -> int:
        """Returns how many parameters of nodes that are there go."""
        if not shares:
            return 0
        gone = 0
        names = {str(node.outputs[0].name) for node in live}
        for one in self._trained.values():
            if not names.isdisjoint(one.nodes):
                left = Fraction(one.size)
                for group, _ in one.groups:
                    left *= shares.get(group, 1)
                gone += one.size - round(left)
        return gone


def shares_of(widths: Widths) -> dict[str, Fraction]:
    """Returns the share of channels that stays, by group."""
    return {width.group: Fraction(width.kept, width.channels) for width in widths}
