"""Splits layers by groups of channels, so that narrow and wide networks share their weights.

Where configurations keep different channels of a group, a wide kernel does not hold a narrow
one's bytes in a row. So channels are split into parts that configurations have or lack as a
whole, and each part gets a kernel of its own, shared by every configuration that has it. What
mixes the parts becomes a sum, which starts at the shortcut where there is one: then each
addition is fused into a convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph.operands import constant, graph_of, operand
from skipc.compiler.graph.passes import RewritePass
from skipc.compiler.graph.passes.narrow import resize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.channels import Carrier, PerChannel
    from skipc.compiler.axes.width_groups import Group

    Parts = Sequence[NDArray[np.intp]]
    Part = tuple[Parts, int]

_WEIGHT, _BIAS = 1, 2


class SplitChannelsPass(RewritePass):
    """Splits what makes, passes on and mixes the channels of groups.

    Args:
        groups: Groups that were found in this graph, each with the channels of its parts, at
            least two.
        biased: The number of the part in the sum that takes a layer's bias.
    """

    def __init__(self, groups: Sequence[tuple[Group, Parts]], biased: int = 0) -> None:
        super().__init__()
        self._biased = biased
        self._parts: dict[str, Parts] = {}
        self._own: dict[str, list[PerChannel]] = {}
        self._mixed: dict[str, tuple[PerChannel, Parts]] = {}
        self._places: dict[str, Carrier] = {}
        self._depthwise: set[str] = set()
        self._sizes: dict[str, list[PerChannel]] = {}
        self._makers: set[str] = set()
        for group, parts in groups:
            self._parts |= dict.fromkeys((each.value for each in group.carriers), parts)
            self._places |= {each.value: each for each in group.carriers}
            self._mixed |= {each.node: (each, parts) for each in group.mixed}
            self._makers |= {each.node for each in group.made}
            self._depthwise |= set(group.depthwise)
            for each in (*group.made, *group.passed):
                self._own.setdefault(each.node, []).append(each)
            for each in group.sizes:
                self._sizes.setdefault(each.node, []).append(each)

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the graph; what is not needed any more goes."""
        self._values: dict[ir.Value, list[ir.Value]] = {}
        for node in list(model.graph):
            name = str(node.outputs[0].name)
            if name in self._mixed or name in self._makers:
                self._layer(node, name)
            elif name in self._parts:
                one = self._concatenated if node.op_type == "Concat" else self._one
                made = [one(node, name, number) for number in range(len(self._parts[name]))]
                for place, value in enumerate(node.outputs):
                    self._values[value] = [values[place] for values in made]
        common.RemoveUnusedNodesPass()(model)

    def _layer(self, node: ir.Node, name: str) -> None:
        """Gives a layer a kernel for each part of what it reads and of what it makes."""
        data = operand(node, 0)
        reads: list[tuple[ir.Value, Part | None]] = [(data, None)]
        if name in self._mixed:
            parts = self._mixed[name][1]
            reads = [(value, (parts, n)) for n, value in enumerate(self._values[data])]
        biased = self._biased % len(reads)
        if name not in self._makers:
            terms = [
                self._term(node, *read, None, n == biased) for n, read in enumerate(reads)
            ]
            _add_up(node, terms)
            return
        made = []
        for number in range(len(self._parts[name])):
            part = self._parts[name], number
            terms = [
                self._term(node, *read, part, n == biased) for n, read in enumerate(reads)
            ]
            total = terms[0]
            for term in terms[1:]:
                total = _sum(node, total, term, node)
            total.name = f"{name}.{number}"
            made.append(total)
        self._values[node.outputs[0]] = made

    def _term(
        self,
        node: ir.Node,
        data: ir.Value,
        read: Part | None,
        made: Part | None,
        biased: bool,
    ) -> ir.Value:
        """Returns a layer for some channels that it reads and makes."""
        name = str(node.outputs[0].name)
        own = {each.operand: each for each in self._own.get(name, [])}
        weight = constant(node, _WEIGHT).numpy()
        if read is not None:
            weight = _taken(weight, self._mixed[name][0], read)
        if made is not None:
            weight = _taken(weight, own[_WEIGHT], made)
        inputs: list[ir.Value | None] = [data, _constant(node, weight)]
        if biased and len(node.inputs) > _BIAS and node.inputs[_BIAS] is not None:
            bias = constant(node, _BIAS).numpy()
            if made is not None and _BIAS in own:
                bias = _taken(bias, own[_BIAS], made)
            inputs.append(_constant(node, bias))
        (new,) = _copy(node, inputs, {})
        if made is not None:
            self._resize(new, name, made)
        return new

    def _resize(self, value: ir.Value, name: str, part: Part) -> None:
        """Writes the size of a part into that of a value in the place of another."""
        place, (parts, number) = self._places[name], part
        resize(value, place.axis, place.outer * len(parts[number]) * place.inner)

    def _one(self, node: ir.Node, name: str, number: int) -> Sequence[ir.Value]:
        """Returns what a node makes of one part of the channels that go through it."""
        part = self._parts[name], number
        count = len(self._parts[name][number])
        own = {each.operand: each for each in self._own.get(name, [])}
        inputs: list[ir.Value | None] = []
        for place, value in enumerate(node.inputs):
            if value in self._values:
                inputs.append(self._values[value][number])
            elif value is not None and place in own:
                array = _taken(constant(node, place).numpy(), own[place], part)
                inputs.append(_constant(node, array))
            else:
                inputs.append(value)
        for each in self._sizes.get(name, []):
            sizes = constant(node, each.operand).numpy().copy()
            sizes[each.axis] = each.outer * count * each.inner
            inputs[each.operand] = _constant(node, sizes)
        changed = {"group": count} if name in self._depthwise else {}
        made = _copy(node, inputs, changed)
        for value, result in zip(made, node.outputs, strict=True):
            value.name = f"{result.name}.{number}"
            self._resize(value, str(result.name), part)
        return made

    def _concatenated(self, node: ir.Node, name: str, number: int) -> Sequence[ir.Value]:
        """Returns one part of a concatenation: those operands, or parts of them, in it."""
        part, axis, offset = self._parts[name][number], self._places[name].axis, 0
        found: list[ir.Value | None] = []
        for value in node.inputs:
            assert value is not None
            assert value.shape is not None
            size = value.shape[axis]
            assert isinstance(size, int)
            inside = part[(part >= offset) & (part < offset + size)] - offset
            offset += size
            if len(inside) == size:
                found.append(value)
            elif len(inside):
                parts = self._parts[str(value.name)]
                (place,) = (n for n, p in enumerate(parts) if np.array_equal(p, inside))
                found.append(self._values[value][place])
        if len(found) == 1:
            (only,) = found
            assert only is not None
            return (only,)
        (new,) = _copy(node, found, {})
        new.name = f"{name}.{number}"
        resize(new, axis, len(part))
        return (new,)


def _taken(array: NDArray[Any], place: PerChannel, part: Part) -> NDArray[Any]:
    """Returns the entries of some channels, or heads, along a dimension."""
    parts, number = part
    channels = np.zeros(sum(map(len, parts)), bool)
    channels[parts[number]] = True
    return np.compress(place.entries(channels), array, place.axis)


def _add_up(node: ir.Node, terms: Sequence[ir.Value]) -> None:
    """Lets a sum take the place of a layer's result."""
    result = node.outputs[0]
    uses = list(result.uses())
    join, place = uses[0] if len(uses) == 1 else (node, 0)
    if join.op_type == "Add" and not result.is_graph_output():
        other = operand(join, 1 - place)
        if other.const_value is None and other.shape == result.shape:
            total = other
            for term in terms[:-1]:
                total = _sum(node, total, term, join)
            join.replace_input_with(0, terms[-1])
            join.replace_input_with(1, total)
            return
    total = terms[0]
    for term in terms[1:]:
        total = _sum(node, total, term, node)
    name, result.name = str(result.name), f"{result.name}.whole"
    total.name = name
    result.replace_all_uses_with(total, replace_graph_outputs=True)


def _sum(layer: ir.Node, total: ir.Value, term: ir.Value, before: ir.Node) -> ir.Value:
    """Returns a sum that a layer's part is added to, computed in front of a node.

    ONNX Runtime fuses an addition into its first operand where both are convolutions, as a
    shortcut's may be: so it is a part, whatever other parts there are.
    """
    addition = ir.node("Add", [term, total])
    addition.metadata_props.update(layer.metadata_props)
    value = addition.outputs[0]
    value.type, value.shape = term.type, term.shape
    value.metadata_props.update(term.metadata_props)
    graph_of(before).insert_before(before, addition)
    return value


def _copy(
    node: ir.Node, inputs: Sequence[ir.Value | None], changed: Mapping[str, int]
) -> Sequence[ir.Value]:
    """Returns what a copy of a node with other operands computes, in front of it."""
    attributes = [each for name, each in node.attributes.items() if name not in changed]
    attributes += [ir.AttrInt64(name, number) for name, number in changed.items()]
    copy = ir.Node(
        node.domain, node.op_type, inputs, attributes, num_outputs=len(node.outputs)
    )
    copy.metadata_props.update(node.metadata_props)
    for value, result in zip(copy.outputs, node.outputs, strict=True):
        value.type, value.shape = result.type, result.shape
        value.metadata_props.update(result.metadata_props)
    graph_of(node).insert_before(node, copy)
    return copy.outputs


def _constant(node: ir.Node, array: NDArray[np.generic]) -> ir.Value:
    """Returns a new constant of a node's graph."""
    graph, number = graph_of(node), 0
    while (name := f"{node.outputs[0].name}.part{number}") in graph.initializers:
        number += 1
    value = ir.val(name, const_value=ir.tensor(np.ascontiguousarray(array)))
    graph.register_initializer(value)
    return value
