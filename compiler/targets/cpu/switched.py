"""A graph in which what a unit needs stands in an ``If`` on the unit's own condition.

It is assembled from nodes that ONNX Runtime has optimised already. So nothing but the switches
is new: the same kernels run on the same packed weights, and give the same bits. The branches
are flat, also of units within units: packed weights are found one level deep only.

A condition is a switch of a mask, or what a gate decides.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.targets.cpu.cut import PASSING_ON
from skipc.compiler.targets.cpu.numbered import subgraphs_in
from skipc.compiler.targets.cpu.optimized import UnsuitedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from skipc.compiler.targets.cpu.numbered import Difference, NumberedGraph

    Chain = tuple[str, ...]

MASK = "skipc.units"
"""The further input: by unit, whether it runs."""
_SPLIT_SINCE = 13
_INT8 = (int(TensorProto.UINT8), int(TensorProto.INT8))


@dataclass(frozen=True, slots=True)
class Conditions:
    """What tells whether each unit runs.

    Attributes:
        values: By unit, the boolean that does.
        nodes: Compute them, of what the graph computes and of ``inputs``.
        weights: What these nodes read besides.
        inputs: The graph's further inputs.
        outputs: All that the graph gives; None for what it gives without switches.
    """

    values: Mapping[str, str]
    nodes: Sequence[onnx.NodeProto]
    weights: Sequence[TensorProto]
    inputs: Sequence[onnx.ValueInfoProto]
    outputs: Sequence[onnx.ValueInfoProto] | None = None


def mask_of(units: Sequence[str]) -> Conditions:
    """Returns the conditions that are the elements of a mask, an input."""
    names = [f"{MASK}.{number}" for number in range(len(units))]
    node, sizes = taken_apart(MASK, names, [1] * len(units))
    given = helper.make_tensor_value_info(MASK, TensorProto.BOOL, [len(units)])
    return Conditions(dict(zip(units, names, strict=True)), [node], [sizes], [given])


def taken_apart(
    value: str, names: Sequence[str], sizes: Sequence[int], axis: int = 0
) -> tuple[onnx.NodeProto, TensorProto]:
    """Returns what takes a list apart into pieces of sizes, and what that reads besides."""
    held = numpy_helper.from_array(np.array(sizes, np.int64), f"{value}.sizes")
    return helper.make_node("Split", [value, held.name], names, axis=axis), held


@dataclass(frozen=True, slots=True)
class _Step:
    """A node of the new graph, with what it reads, also from within its branches."""

    node: onnx.NodeProto
    reads: frozenset[str]


def switched_graph(
    full: NumberedGraph,
    units: Mapping[str, Difference],
    within: Mapping[str, Sequence[str]],
    conditions: Conditions,
) -> onnx.ModelProto:
    """Returns the full graph in which each unit runs where its condition holds.

    Args:
        full: The full network's optimised graph.
        units: What skipping each unit changes, in network order.
        within: By unit, those in whose branch it lies.
        conditions: Their conditions.

    Raises:
        UnsuitedError: Units cannot be switched one by one.
    """
    _check(full, units, within)
    return _Assembly(full, units, conditions).model()


def _check(
    full: NumberedGraph, units: Mapping[str, Difference], within: Mapping[str, Sequence[str]]
) -> None:
    """Refuses units of which one changes what ONNX Runtime makes of the other."""
    for (one, a), (other, b) in combinations(units.items(), 2):
        shared = a.region & b.region
        nested = (one in within[other] and shared == b.region) or (
            other in within[one] and shared == a.region
        )
        if shared and not nested:
            raise UnsuitedError(
                f"ONNX Runtime fuses parts of the units {one!r} and {other!r} into one"
            )
    for unit, changed in units.items():
        inside = [full.nodes[place] for place in changed.region]
        for node in subgraphs_in(inside):
            raise UnsuitedError(f"the unit {unit!r} holds a graph of its own ({node.op_type})")
        for replacement in changed.replaced.values():
            for name in replacement.reads:
                place = full.makers.get(name)
                for other, b in units.items():
                    if (
                        place in b.region
                        and other not in (unit, *within[unit])
                        and name not in b.replaced
                    ):
                        raise UnsuitedError(
                            f"without {unit!r} the network reads what ONNX Runtime computes"
                            f" within {other!r}"
                        )


class _Assembly:
    def __init__(
        self, full: NumberedGraph, units: Mapping[str, Difference], conditions: Conditions
    ) -> None:
        self._full, self._units = full, units
        self._conditions = conditions
        self._weights: list[TensorProto] = [*conditions.weights]
        self._steps: list[_Step] = []
        graph = full.model.graph
        infos = (*graph.value_info, *graph.output)
        self._types = {info.name: info.type.tensor_type.elem_type for info in infos}
        self._readers: dict[str, set[int]] = defaultdict(set)
        for place, node in enumerate(full.nodes):
            for name in node.input:
                self._readers[name].add(place)

    def model(self) -> onnx.ModelProto:
        """Returns the model."""
        versions = {each.domain: each.version for each in self._full.model.opset_import}
        if versions.get("", 0) < _SPLIT_SINCE:
            raise UnsuitedError(f"the graph is of opset {versions.get('', 0)}, below 13")
        for node in self._conditions.nodes:
            self._add(node, _read(node))
        groups = self._groups()
        grouped = {place for members in groups.values() for place in members}
        for place, node in enumerate(self._full.nodes):
            if place not in grouped:
                self._add(node, _read(node))
        for (chain, _), members in groups.items():
            self._choose(chain, members)
        model = onnx.ModelProto()
        model.CopyFrom(self._full.model)
        graph = model.graph
        graph.ClearField("node")
        graph.ClearField("value_info")
        graph.input.extend(self._conditions.inputs)
        if self._conditions.outputs is not None:
            graph.ClearField("output")
            graph.output.extend(self._conditions.outputs)
        graph.node.extend(_sorted(self._steps))
        graph.initializer.extend(self._weights)
        return model

    def _add(self, node: onnx.NodeProto, reads: Iterable[str]) -> None:
        self._steps.append(_Step(node, frozenset(reads)))

    def _groups(self) -> dict[tuple[Chain, int], list[int]]:
        """Returns the nodes that one ``If`` holds, by the units that all must run for them.

        What surrounds another unit's nodes is several groups: before, between, and behind.
        """
        order = sorted(self._units, key=lambda unit: -len(self._units[unit].region))
        chains = {
            place: tuple(unit for unit in order if place in self._units[unit].region)
            for place in range(len(self._full.nodes))
        }
        groups: dict[tuple[Chain, int], list[int]] = defaultdict(list)
        for chain in sorted(set(chains.values()) - {()}):
            part: dict[str, int] = {}
            for place, node in enumerate(self._full.nodes):
                mine, at = chains[place] == chain, 0 if chains[place] == chain else -1
                for name in filter(self._full.makers.get, node.input):
                    left = mine and chains[self._full.makers[name]] != chain
                    at = max(at, part[name] + left)
                part.update(dict.fromkeys(node.output, at))
                if mine:
                    groups[chain, at].append(place)
        return groups

    def _choose(self, chain: Chain, members: Sequence[int]) -> None:
        """Adds the ``If`` of some nodes."""
        full, inside = self._full, set(members)
        made = [name for place in members for name in full.nodes[place].output if name]
        given = [n for n in made if self._readers[n] - inside or n in full.ends]
        kept = {name: f"{name}.kept" for name in given}
        then = [_renamed(full.nodes[place], kept) for place in members]
        otherwise: list[onnx.NodeProto] = []
        for name in given:
            ends = [unit for unit in chain if name in self._units[unit].replaced]
            if len(ends) > 1:
                raise UnsuitedError(f"the units {ends[0]!r} and {ends[1]!r} end in one node")
            source = self._nothing(name)
            if ends:
                replacement = self._units[ends[0]].replaced[name]
                otherwise += replacement.nodes
                self._weights += replacement.weights
                source = replacement.value
            otherwise.append(helper.make_node("Identity", [source], [f"{name}.else"]))
        outputs = [
            (self._info(f"{name}.kept", name), self._info(f"{name}.else", name))
            for name in given
        ]
        node = helper.make_node(
            "If",
            [self._condition(chain)],
            given,
            then_branch=helper.make_graph(then, "then", [], [info for info, _ in outputs]),
            else_branch=helper.make_graph(otherwise, "else", [], [i for _, i in outputs]),
        )
        self._add(node, _read(node))

    def _condition(self, chain: Chain) -> str:
        """Returns the value that is true where all units of a chain run."""
        names = list(self._units)
        value = ""
        for depth, unit in enumerate(chain, start=1):
            switch = self._conditions.values[unit]
            if not value:
                value = switch
                continue
            numbers = ".".join(str(names.index(each)) for each in chain[:depth])
            both = f"{MASK}.all.{numbers}"
            if all(both not in step.node.output for step in self._steps):
                self._add(helper.make_node("And", [value, switch], [both]), [value, switch])
            value = both
        return value

    def _nothing(self, name: str) -> str:
        """Returns a constant of a value's type, for where nobody reads the value."""
        kind = self._kind(name)
        constant = f"{MASK}.nothing.{kind}"
        if all(weight.name != constant for weight in self._weights):
            zero = np.zeros((), helper.tensor_dtype_to_np_dtype(kind))
            self._weights.append(numpy_helper.from_array(zero, constant))
        return constant

    def _kind(self, name: str) -> int:
        """Returns the type of a value, of which an optimised graph notes few."""
        place = self._full.makers.get(name)
        known = self._types.get(name)
        if known or place is None:
            return known or int(TensorProto.FLOAT)
        node = self._full.nodes[place]
        if node.op_type in PASSING_ON:
            return self._kind(node.input[0])
        if node.op_type.startswith("QLinear") or node.op_type == "QuantizeLinear":
            # The zero point of its result is the last one.
            read = [self._full.weights[n] for n in node.input if n in self._full.weights]
            points = [each.data_type for each in read if not each.dims]
            return next((each for each in reversed(points) if each in _INT8), _INT8[0])
        return int(TensorProto.FLOAT)

    def _info(self, name: str, like: str) -> onnx.ValueInfoProto:
        """Returns a value without a shape, which a blocked layout would not fit."""
        kind = helper.make_tensor_type_proto(self._kind(like), None)
        return onnx.ValueInfoProto(name=name, type=kind)


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for values in (copy.input, copy.output):
        for place, name in enumerate(values):
            values[place] = names.get(name, name)
    return copy


def _read(node: onnx.NodeProto) -> set[str]:
    """Returns the names that a node reads, also from within its branches."""
    found = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            made = {name for inner in graph.node for name in inner.output}
            found |= {name for inner in graph.node for name in _read(inner)} - made
    return found


def _sorted(steps: Sequence[_Step]) -> list[onnx.NodeProto]:
    """Returns the nodes in an order in which each reads what is there."""
    makers = {name: number for number, s in enumerate(steps) for name in s.node.output if name}
    needs = [{makers[name] for name in step.reads if name in makers} for step in steps]
    done: dict[int, onnx.NodeProto] = {}
    pending, opened = [*reversed(range(len(steps)))], set()
    while pending:
        number = pending[-1]
        missing = [each for each in needs[number] if each not in done]
        if number in done or not missing:
            done.setdefault(number, steps[pending.pop()].node)
            continue
        if number in opened:
            raise UnsuitedError("units that feed one another cannot be switched one by one")
        opened.add(number)
        pending += missing
    return [*done.values()]
