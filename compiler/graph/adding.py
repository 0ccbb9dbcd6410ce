"""Nodes that are added to a graph: made one after the other, put in together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_AXES_ARE_AN_INPUT = 18
"""From this opset on the axes of ReduceMean are an input."""


class Added:
    """Nodes that are to be added, with constants, which are in the graph at once.

    Args:
        graph: The graph.
        prefix: What names of values begin with.
    """

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self._graph, self._prefix = graph, prefix
        self.nodes: list[ir.Node] = []
        """In order."""

    def add(
        self,
        node: ir.Node,
        name: str,
        kind: ir.TypeProtocol | None,
        shape: Sequence[int | ir.SymbolicDim],
    ) -> ir.Value:
        """Adds a node behind the others, and returns its value with its type and shape."""
        made = node.outputs[0]
        made.name = f"{self._prefix}.{name}"
        made.type, made.shape = kind, ir.Shape(shape)
        self.nodes.append(node)
        return made

    def constant(self, array: NDArray[Any], name: str) -> ir.Value:
        """Returns a constant of the graph."""
        held = ir.val(f"{self._prefix}.{name}", const_value=ir.tensor(array))
        self._graph.register_initializer(held)
        return held

    def mean(self, value: ir.Value, axis: int) -> ir.Value:
        """Returns the mean over all positions, (N, channels), of channels along an axis."""
        assert value.shape is not None
        rows, channels = value.shape[0], value.shape[axis]
        positions = [each for each in range(1, len(value.shape)) if each != axis]
        if not positions:
            return value
        if len(positions) > 1 and axis == 1:
            # Unlike ReduceMean it is computed in the blocked layout that convolutions use.
            pool = ir.node("GlobalAveragePool", [value])
            ones = [1] * len(positions)
            pooled = self.add(pool, "means", value.type, (rows, channels, *ones))
            node = ir.node("Flatten", [pooled])
        elif self._graph.opset_imports[""] >= _AXES_ARE_AN_INPUT:
            axes = self.constant(np.array(positions), "axes")
            node = ir.node("ReduceMean", [value, axes], {"keepdims": 0})
        else:
            node = ir.node("ReduceMean", [value], {"axes": positions, "keepdims": 0})
        return self.add(node, "mean", value.type, (rows, channels))
