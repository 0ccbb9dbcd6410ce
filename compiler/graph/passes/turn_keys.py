"""Writes the transposition of an attention's keys as one node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.graph.operands import graph_of
from skipc.compiler.graph.passes import RewritePass

if TYPE_CHECKING:
    from collections.abc import Sequence

_ONE_BY_ONE = frozenset({"Add", "Div", "IsNaN", "LogSoftmax", "Mul", "Softmax", "Where"})


class TurnKeysPass(RewritePass):
    """Swaps the last two dimensions where a graph reshapes by computed sizes to do so.

    With a dynamic batch torch's exporter brings keys to three dimensions, swaps the last two,
    and brings them back, by sizes that the graph computes. Heads are lost on the way.
    """

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the graph; nodes that nothing reads any more stay."""
        found = False
        for node in list(model.graph):
            keys = _keys_turned_by(node)
            if keys is None or keys.shape is None:
                continue
            *front, before, last = keys.shape
            order = [*range(len(front)), len(front) + 1, len(front)]
            turned = ir.node("Transpose", [keys], attributes={"perm": order})
            turned.metadata_props.update(node.metadata_props)
            value, result = turned.outputs[0], node.outputs[0]
            value.type, value.shape = keys.type, ir.Shape([*front, last, before])
            graph_of(node).insert_before(node, turned)
            name, result.name = result.name, f"{result.name}.reshaped"
            value.name = name
            result.replace_all_uses_with(value)
            found = True
        if found:
            for node in model.graph:
                _settle(node)


def _keys_turned_by(node: ir.Node) -> ir.Value | None:
    """Returns what a node gives with its last two dimensions swapped; None if it does not."""
    turned = _producer(node, "Reshape")
    middle = turned and _producer(turned, "Transpose")
    if turned is None or middle is None or turned.outputs[0].is_graph_output():
        return None
    if list(turned.attributes.get_ints("perm", ())) != [0, 2, 1]:
        return None
    keys = middle.inputs[0] if middle.op_type == "Reshape" else None
    if keys is None or keys.shape is None or len(keys.shape) < 3:
        return None
    rank = len(keys.shape)
    to, back = _sizes(middle.inputs[1]), _sizes(node.inputs[1])
    if not _are(to[1:], keys, [rank - 2, rank - 1]) or to[:1] not in ([-1], []):
        return None
    order = [*range(rank - 2), rank - 1, rank - 2]
    computed = node.inputs[1] is not None and node.inputs[1].const_value is None
    return keys if computed and to and _are(back, keys, order) else None


def _producer(node: ir.Node, operator: str) -> ir.Node | None:
    """Returns what computes the first operand of a node that is such an operator."""
    value = node.inputs[0] if node.op_type == operator else None
    return None if value is None else value.producer()


_Size = int | tuple[ir.Value, int]
"""A number, or a tensor's size in a dimension."""


def _sizes(value: ir.Value | None) -> list[_Size]:
    """Returns the sizes that a list holds; nothing where they are computed otherwise."""
    if value is None:
        return []
    if value.const_value is not None:
        return [int(each) for each in value.const_value.numpy().reshape(-1)]
    node = value.producer()
    if node is None:
        return []
    if node.op_type == "Concat":
        parts = [_sizes(part) for part in node.inputs]
        return [size for part in parts for size in part] if all(parts) else []
    if node.op_type == "Shape":
        data, begin = node.inputs[0], node.attributes.get_int("start", 0)
        rank = 0 if data is None or data.shape is None else len(data.shape)
        axes = range(rank)[begin : node.attributes.get_int("end", rank)]
        return [(data, axis) for axis in axes if data is not None]
    if node.op_type == "Slice" and len(node.inputs) == 3:
        whole, start, end = (_sizes(part) for part in node.inputs)
        if whole and len(start) == len(end) == 1:
            first, behind = start[0], end[0]
            if isinstance(first, int) and isinstance(behind, int):
                return whole[first:behind]
    return []


def _are(sizes: Sequence[_Size], keys: ir.Value, axes: Sequence[int]) -> bool:
    """Tells whether sizes are those of the keys in some dimensions."""
    return len(sizes) == len(axes) and all(
        size == (keys, axis) or (isinstance(size, int) and size == _known(keys, axis))
        for size, axis in zip(sizes, axes, strict=True)
    )


def _known(value: ir.Value, axis: int) -> int | None:
    size = None if value.shape is None else value.shape[axis]
    return size if isinstance(size, int) else None


def _settle(node: ir.Node) -> None:
    """Gives a result the sizes that its operands have, where it has none."""
    result = node.outputs[0]
    read = [v.shape for v in node.inputs if v is not None and v.shape is not None]
    if result.shape is None or all(_is_known(size) for size in result.shape):
        return
    rank = len(result.shape)
    sizes = list(result.shape)
    same = [list(shape) for shape in read if len(shape) == rank]
    if node.op_type == "MatMul" and len(same) == 2:
        sizes = [*same[0][:-1], same[1][-1]]
    elif node.op_type in _ONE_BY_ONE and same:
        largest = [[shape[axis] for shape in same if shape[axis] != 1] for axis in range(rank)]
        sizes = [each[0] if each else 1 for each in largest]
    result.shape = ir.Shape(sizes)


def _is_known(size: int | ir.SymbolicDim) -> bool:
    return isinstance(size, int) or size.value is not None
