"""Splits layers by groups of channels, so that narrow and wide networks share their weights.

Where configurations keep different channels of a group, a wide kernel does not hold a narrow
one's bytes in a row. So channels are split into parts that configurations have or lack as a
whole, and each part gets a kernel of its own, shared by every configuration that has it. What
mixes the parts becomes a sum, which starts at the shortcut where there is one: then each
addition is fused into a convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph.operands import constant, graph_of, operand
from skipc.compiler.graph.passes import RewritePass
from skipc.compiler.graph.passes.narrow import resize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.channel_paths import PerChannel
    from skipc.compiler.axes.width_groups import Group

    Parts = Sequence[NDArray[np.intp]]

_WEIGHT, _BIAS = 1, 2


class SplitChannelsPass(RewritePass):
    """Splits what makes, passes on and mixes the channels of groups.

    Args:
        groups: Groups that were found in this graph, each with the channels of its parts, at
            least two.
    """

    def __init__(self, groups: Sequence[tuple[Group, Parts]]) -> None:
        super().__init__()
        self._parts: dict[str, Parts] = {}
        self._own: dict[str, list[PerChannel]] = {}
        self._mixed: dict[str, tuple[PerChannel, Parts]] = {}
        self._axes: dict[str, int] = {}
        self._depthwise: set[str] = set()
        self._sizes: dict[str, list[PerChannel]] = {}
        self._makers: set[str] = set()
        for group, parts in groups:
            self._parts |= dict.fromkeys((each.value for each in group.carriers), parts)
            self._axes |= {each.value: each.axis for each in group.carriers}
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
                self._values[node.outputs[0]] = [
                    one(node, name, number) for number in range(len(self._parts[name]))
                ]
        common.RemoveUnusedNodesPass()(model)

    def _layer(self, node: ir.Node, name: str) -> None:
        """Gives a layer a kernel for each part of what it reads and of what it makes."""
        data = operand(node, 0)
        reads: list[tuple[ir.Value, NDArray[np.intp] | None]] = [(data, None)]
        if name in self._mixed:
            reads = list(zip(self._values[data], self._mixed[name][1], strict=True))
        if name not in self._makers:
            terms = [self._term(node, *read, None, not n) for n, read in enumerate(reads)]
            _add_up(node, terms)
            return
        made = []
        for number, part in enumerate(self._parts[name]):
            terms = [self._term(node, *read, part, not n) for n, read in enumerate(reads)]
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
        read: NDArray[np.intp] | None,
        made: NDArray[np.intp] | None,
        first: bool,
    ) -> ir.Value:
        """Returns a layer for some channels that it reads and makes; the first is biased."""
        name = str(node.outputs[0].name)
        own = {each.operand: each.axis for each in self._own.get(name, [])}
        weight = constant(node, _WEIGHT).numpy()
        if read is not None:
            weight = np.take(weight, read, self._mixed[name][0].axis)
        if made is not None:
            weight = np.take(weight, made, own[_WEIGHT])
        inputs: list[ir.Value | None] = [data, _constant(node, weight)]
        if first and len(node.inputs) > _BIAS and node.inputs[_BIAS] is not None:
            bias = constant(node, _BIAS).numpy()
            if made is not None and _BIAS in own:
                bias = np.take(bias, made, own[_BIAS])
            inputs.append(_constant(node, bias))
        new = _copy(node, inputs, {})
        if made is not None:
            resize(new, self._axes[name], len(made))
        return new

    def _one(self, node: ir.Node, name: str, number: int) -> ir.Value:
        """Returns what a node makes of one part of the channels that go through it."""
        part = self._parts[name][number]
        own = {each.operand: each.axis for each in self._own.get(name, [])}
        inputs: list[ir.Value | None] = []
        for place, value in enumerate(node.inputs):
            if value in self._values:
                inputs.append(self._values[value][number])
            elif value is not None and place in own:
                array = np.take(constant(node, place).numpy(), part, own[place])
                inputs.append(_constant(node, array))
            else:
                inputs.append(value)
        for each in self._sizes.get(name, []):
            sizes = constant(node, each.operand).numpy().copy()
            sizes[each.axis] = len(part)
            inputs[each.operand] = _constant(node, sizes)
        changed = {"group": len(part)} if name in self._depthwise else {}
        new = _copy(node, inputs, changed)
        new.name = f"{name}.{number}"
        resize(new, self._axes[name], len(part))
        return new

    def _concatenated(self, node: ir.Node, name: str, number: int) -> ir.Value:
        """Returns one part of a concatenation: those operands, or parts of them, in it."""
        part, axis, offset = self._parts[name][number], self._axes[name], 0
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
            return only
        new = _copy(node, found, {})
        new.name = f"{name}.{number}"
        resize(new, axis, len(part))
        return new


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
            join.replace_input_with(0, total)
            join.replace_input_with(1, terms[-1])
            return
    total = terms[0]
    for term in terms[1:]:
        total = _sum(node, total, term, node)
    name, result.name = str(result.name), f"{result.name}.whole"
    total.name = name
    result.replace_all_uses_with(total, replace_graph_outputs=True)


def _sum(layer: ir.Node, total: ir.Value, term: ir.Value, before: ir.Node) -> ir.Value:
    """Returns a sum that a layer's part is added to, computed in front of a node."""
    addition = ir.node("Add", [total, term])
    addition.metadata_props.update(layer.metadata_props)
    value = addition.outputs[0]
    value.type, value.shape = term.type, term.shape
    value.metadata_props.update(term.metadata_props)
    graph_of(before).insert_before(before, addition)
    return value


def _copy(
    node: ir.Node, inputs: Sequence[ir.Value | None], changed: Mapping[str, int]
) -> ir.Value:
    """Returns what a copy of a node with other operands computes, in front of it."""
    attributes = [each for name, each in node.attributes.items() if name not in changed]
    attributes += [ir.AttrInt64(name, number) for name, number in changed.items()]
    copy = ir.Node(node.domain, node.op_type, inputs, attributes)
    copy.metadata_props.update(node.metadata_props)
    value, result = copy.outputs[0], node.outputs[0]
    value.type, value.shape = result.type, result.shape
    value.metadata_props.update(result.metadata_props)
    graph_of(node).insert_before(node, copy)
    return value


def _constant(node: ir.Node, array: NDArray[np.generic]) -> ir.Value:
    """Returns a new constant of a node's graph."""
    graph, number = graph_of(node), 0
    while (name := f"{node.outputs[0].name}.part{number}") in graph.initializers:
        number += 1
    value = ir.val(name, const_value=ir.tensor(np.ascontiguousarray(array)))
    graph.register_initializer(value)
    return value
