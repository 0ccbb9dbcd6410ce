"""What a configuration costs: counted, measured, or looked up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from skipc.compiler.graph.costs import node_macs
from skipc.compiler.graph.index import node_inputs

if TYPE_CHECKING:
    import onnx_ir as ir

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.axes.units import Unit


class CostKind(str, Enum):
    """What ``--cost`` may minimise."""

    MACS = "macs"
    PARAMETERS = "parameters"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Counted:
    """What one configuration's subnet holds.

    Attributes:
        macs: Multiply-accumulate operations of one inference, batch 1.
        parameters: Trained parameters.
        run: Indices of the units whose branch is run: neither skipped nor within what is.
    """

    macs: int
    parameters: int
    run: frozenset[int]


class Counter:
    """Counts the nodes and weights that a configuration still needs.

    Exact where units are nested or share a part, since every configuration is walked back
    from the outputs; a few hundred nodes each.

    Args:
        model: The supernet's graph.
        units: Its units.
    """

    def __init__(self, model: ir.Model, units: tuple[Unit, ...]) -> None:
        self._outputs = [value.producer() for value in model.graph.outputs]
        self._joins = {
            unit.join: (index, unit.shortcut) for index, unit in enumerate(units) if unit.join
        }
        # What a network leaves out by its own means has no place in its graph.
        self._loose = {index: unit for index, unit in enumerate(units) if not unit.join}
        self._macs = {node: node_macs(node) for node in model.graph}
        self._known: dict[Genes, Counted] = {}

    def count(self, genes: Genes) -> Counted:
        """Returns what the subnet of a configuration holds."""
        if genes not in self._known:
            self._known[genes] = self._count(genes)
        return self._known[genes]

    def _count(self, genes: Genes) -> Counted:
        needed: set[ir.Node] = set()
        weights: set[ir.Value] = set()
        run: set[int] = set()
        macs = 0
        pending = [node for node in self._outputs if node is not None]
        while pending:
            node = pending.pop()
            if node in needed:
                continue
            needed.add(node)
            unit, shortcut = self._joins.get(str(node.outputs[0].name), (None, 0))
            if unit is not None and genes[unit]:
                kept = node.inputs[shortcut]
                read = [] if kept is None else [kept]
            else:
                run |= set() if unit is None else {unit}
                macs += self._macs[node]
                read = list(node_inputs(node))
                trained = node.inputs[:3] if node.op_type == "BatchNormalization" else read
                weights.update(v for v in trained if v is not None and v.is_initializer())
            for value in read:
                before = value.producer()
                if before is not None:
                    pending.append(before)
        gone = [unit for index, unit in self._loose.items() if genes[index]]
        run |= {index for index in self._loose if not genes[index]}
        return Counted(
            macs - sum(unit.macs for unit in gone),
            sum(map(_trained, weights)) - sum(unit.parameters for unit in gone),
            frozenset(run),
        )


def _trained(value: ir.Value) -> int:
    tensor = value.const_value
    if tensor is None or not tensor.dtype.is_floating_point():
        return 0
    return int(tensor.size)
