"""Marks streams that start from a parameter, before constants are folded.

Where a branch reads a parameter transposed or projected, folding gives it a constant of its
own: then nothing tells any more that the parameter, too, is what the branch is added to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.graph.index import STREAM_KEY, GraphIndex
from skipc.compiler.graph.passes import RewritePass

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir


class MarkStreamsPass(RewritePass):
    """Marks the additions of a constant that the other operand is computed from."""

    def rewrite(self, model: ir.Model) -> None:
        """Writes metadata of nodes."""
        index = GraphIndex(model.graph)
        for node in index.nodes:
            if node.op_type != "Add":
                continue
            constant, other = sorted(
                (value for value in node.inputs if value is not None),
                key=index.is_constant,
                reverse=True,
            )
            if (
                index.is_constant(constant)
                and not index.is_constant(other)
                and any(index.reads(other, source) for source in _sources(constant))
            ):
                node.metadata_props[STREAM_KEY] = "starts"


def _sources(constant: ir.Value) -> Iterator[ir.Value]:
    """Yields a constant and what it is computed from, but for single numbers and sizes."""
    pending = [constant]
    for value in pending:
        dtype = value.dtype
        if dtype is None or dtype.is_floating_point():
            tensor = value.const_value
            if tensor is None or tensor.size > 1:
                yield value
            producer = value.producer()
            if producer is not None:
                pending += [v for v in producer.inputs if v is not None and v not in pending]
