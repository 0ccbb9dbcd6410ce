"""Half precision on a CPU that has none: float32 in between, rounded at the same places.

ONNX Runtime's CPU has no bfloat16 kernels. Of float16 it has some, and computes the rest in
float32 without rounding between them, so that it does not see what overflows on a device.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.graph.passes import RewritePass
from skipc.compiler.graph.passes.half_ops import is_plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})

# A configuration's name cannot start with "_", so no graph of the family is called this.
_FILE = "_rounding.onnx"


@contextmanager
def rounding_graph(graph: Path) -> Iterator[Path]:
    """Yields a graph file that computes as ``graph`` does, without half-precision kernels.

    It lies beside it and its weights until the block ends.
    """
    path = graph.with_name(_FILE)
    model = ir.load(graph)
    RoundInsteadPass()(model)
    try:
        ir.save(model, path)
        yield path
    finally:
        path.unlink(missing_ok=True)


class RoundInsteadPass(RewritePass):
    """Computes half-precision nodes in float32 and rounds what they return.

    A tensor keeps its name; it is float32 with numbers that half precision has. Operators
    that ONNX does not have, and those with subgraphs, still read and return half precision.
    """

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites types and inserts pairs of Casts."""
        graph = model.graph
        nodes = list(graph)
        self._opaque = {node for node in nodes if not is_plain(node)}
        for value in [*graph.inputs, *graph.initializers.values()]:
            if value.dtype in _HALVES:
                self._widen_given(graph, value)
        for node in nodes:
            for value in node.outputs:
                if value.dtype in _HALVES:
                    self._round(graph, node, value)
            _widen_attributes(node)

    def _widen_given(self, graph: ir.Graph, value: ir.Value) -> None:
        cast = _cast(value, ir.DataType.FLOAT, f"{value.name}.wide")
        for user, place in list(value.uses()):
            if user is not cast and user not in self._opaque and user.graph is graph:
                user.replace_input_with(place, cast.outputs[0])
        if len(graph):
            graph.insert_before(graph[0], cast)

    def _round(self, graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
        half, name = value.dtype, str(value.name)
        assert half is not None
        if node in self._opaque:
            rounded, made = value, []
        else:
            value.type = ir.TensorType(ir.DataType.FLOAT)
            narrow = _cast(value, half, f"{name}.rounded")
            rounded, made = narrow.outputs[0], [narrow]
        wide = _cast(rounded, ir.DataType.FLOAT, f"{name}.wide")
        for user, operand in list(value.uses()):
            if user is not (made[0] if made else wide):
                keeps = user in self._opaque or user.graph is not graph
                user.replace_input_with(operand, rounded if keeps else wide.outputs[0])
        for place, output in enumerate(list(graph.outputs)):
            if output is value:
                graph.outputs[place] = rounded
        is_output = rounded.is_graph_output()
        value.name = name if rounded is value else f"{name}.exact"
        (rounded if is_output else wide.outputs[0]).name = name
        for after in reversed([*made, wide]):
            graph.insert_after(node, after)


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    result = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
    return ir.node("Cast", [value], {"to": int(dtype)}, outputs=[result], name=f"{name}.cast")


def _widen_attributes(node: ir.Node) -> None:
    """Makes a node return float32 where an attribute says half precision."""
    if node.op_type == "Cast" and node.attributes.get_int("to", 0) in map(int, _HALVES):
        node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.dtype in _HALVES:
                wide = ir.tensor(tensor.numpy().astype("float32"))
                node.attributes[name] = ir.AttrTensor(name, wide)
