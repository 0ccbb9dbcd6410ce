"""Finding units: the joins whose branch can be removed, with names, costs and nesting."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skipc.compiler.axes.axis import Offer
from skipc.compiler.axes.concatenations import find_concatenations
from skipc.compiler.axes.dense import DenseRules, readable
from skipc.compiler.axes.unit_names import UnitNames, containers
from skipc.compiler.axes.unit_rules import RefusedError, Rules, is_addition
from skipc.compiler.cut import Cut
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.graph.index import GraphIndex, inner_nodes, module_path
from skipc.compiler.graph.passes.narrow import NarrowTensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from skipc.compiler.axes.unit_rules import Candidate
    from skipc.compiler.network import Network

_HIDDEN_JOINS = {
    "FusedConv": 3, "Gemm": 2, "Mean": 1, "QLinearAdd": 3, "SkipLayerNormalization": 1,
    "SkipSimplifiedLayerNormalization": 1, "Sum": 1,
}  # fmt: skip
"""Operators that add more than a constant, if this operand is computed."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the supernet that may be skipped.

    Attributes:
        name: The module path, made unique where a module holds several units.
        join: Name of the join's output value: of an addition, or of the first concatenation.
        shortcut: Which operand of the addition (0 or 1) stays when the unit is skipped.
        module: The innermost module that holds the branch and the join.
        parameters: Parameters that go when the unit alone is skipped.
        macs: Multiply-accumulate operations that go.
        within: The smallest unit in whose branch it lies; "" for none.
        further: What else is zero than the branch where it is joined: its other parts.
        features: Of a dense layer, what is concatenated: the name of the value, which stands
            at all ``further`` operands, and which later layers do without. "" of an addition.
        reading_macs: Of ``macs``, those of the later layers that read them.
    """

    name: str
    join: str
    shortcut: int
    module: str
    parameters: int
    macs: int
    within: str = ""
    further: tuple[Cut, ...] = ()
    features: str = ""
    reading_macs: int = 0

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """The operands that count as zero when it is skipped, of a dense layer as absent."""
        if self.features:
            return self.further
        return (Cut(self.join, 1 - self.shortcut), *self.further)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A join that is no unit, and why."""

    module: str
    join: str
    reason: str


@dataclass(frozen=True, slots=True)
class Units(Offer):
    """What was found in a supernet graph.

    Attributes:
        units: The units in network order.
        rejected: The joins that cannot be units, in network order.
        total_parameters: Parameters of the whole network.
        total_macs: Multiply-accumulate operations of the whole network.
        constants: How many further additions add a constant, as biases do.
        widest: Channels of the widest concatenation.
        tensors: Makes the narrow tensors of what reads dense layers, once for all
            configurations.
        skips: What the configurations that were read skip.
    """

    units: tuple[Unit, ...]
    rejected: tuple[Rejected, ...]
    total_parameters: int
    total_macs: int
    constants: int = 0
    widest: int = 0
    tensors: NarrowTensors = field(default_factory=NarrowTensors, compare=False, repr=False)
    skips: list[frozenset[str]] = field(default_factory=list, compare=False, repr=False)

    @property
    def dense(self) -> tuple[Unit, ...]:
        """The dense layers."""
        return tuple(unit for unit in self.units if unit.features)

    @property
    def options(self) -> Sequence[Unit]:
        """The units."""
        return self.units

    @property
    def details(self) -> frozenset[str]:
        """Names of the units that a search leaves alone unless it is told of them.

        A unit within another is a block if those there do at least half of the outer one's
        work (a long skip leads around blocks), else a detail of the outer one's own.
        """
        found: set[str] = set()
        for outer in reversed(self.units):
            inner = [unit for unit in self.units if unit.within == outer.name]
            if outer.name in found or 2 * sum(unit.macs for unit in inner) < outer.macs:
                found.update(unit.name for unit in inner)
        return frozenset(found)


def find_units(model: ir.Model) -> Units:
    """Returns the units of ``model``, topologically sorted, which is not changed."""
    index = GraphIndex(model.graph)
    concatenations = find_concatenations(model)
    rules, dense = Rules(index), DenseRules(index, concatenations)
    found: list[Candidate] = []
    rejected: list[Rejected] = []
    constants = 0
    for node in index.nodes:
        hidden = _hidden_joins(node, index)
        if hidden:
            rejected.append(_rejected(node, hidden))
        elif rules.is_join(node):
            try:
                found.append(rules.unit(node))
            except RefusedError as reason:
                rejected.append(_rejected(node, str(reason)))
        elif is_addition(node):
            constants += 1
        elif node.op_type == "Concat":
            for features in dense.features(node):
                try:
                    found.append(dense.unit(node, features))
                except RefusedError as reason:
                    rejected.append(_rejected(node, str(reason)))
            if dense.beside(node):
                rejected.append(
                    _rejected(node, "branches beside one another: none is the other's stream")
                )
    return Units(
        units=_units(found),
        rejected=tuple(rejected),
        total_parameters=parameters(index.nodes),
        total_macs=total_macs(index.nodes),
        constants=constants,
        widest=concatenations.widest,
    )


def units_of_network(network: Network) -> Units:
    """Returns the units of a network that its reference can run without, too."""
    found = find_units(network.model)
    units, rejected = [], list(found.rejected)
    features = readable(network.model, network.reference) if found.dense else ()
    for unit in found.units:
        if unit.features in features or (
            not unit.features and all(map(network.reference.can_cut, unit.cuts))
        ):
            units.append(unit)
        else:
            reason = f"{network.reference.name} adds it up within another operator"
            rejected.append(Rejected(unit.module, unit.join, reason))
    return replace(found, units=tuple(units), rejected=tuple(rejected))


def _units(found: Sequence[Candidate]) -> tuple[Unit, ...]:
    around = containers(found)
    naming = UnitNames(found, around)
    names = naming.names()
    return tuple(
        Unit(
            name=name,
            join=_name(each.join),
            shortcut=each.shortcut or 0,
            module=(module or ("",))[-1],
            parameters=parameters(each.gone) + each.lost[0],
            macs=total_macs(each.gone) + each.lost[1],
            within="" if outer is None else names[outer],
            further=each.cuts if each.features else each.cuts[1:],
            features=each.features,
            reading_macs=each.lost[1],
        )
        for name, each, outer, module in zip(names, found, around, naming.modules, strict=True)
    )


def _hidden_joins(node: ir.Node, index: GraphIndex) -> str:
    """Returns why additions inside of ``node`` cannot be units; "" where it holds none."""
    term = node.inputs[_HIDDEN_JOINS.get(node.op_type, len(node.inputs)) :][:1]
    if term and term[0] is not None and not index.is_constant(term[0]):
        return f"the addition is hidden in the operator {node.op_type}: write it as Add"
    inside = sum(map(is_addition, inner_nodes(node)))
    return f"{inside} additions in the body of {node.op_type} are not looked at" * bool(inside)


def _rejected(node: ir.Node, reason: str) -> Rejected:
    return Rejected(module_path(node), _name(node), reason)


def _name(node: ir.Node) -> str:
    return node.outputs[0].name or ""
