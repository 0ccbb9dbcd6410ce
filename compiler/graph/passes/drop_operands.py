"""Drops operands of concatenations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.graph.passes import RewritePass

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx_ir as ir


class DropOperandsPass(RewritePass):
    """Lets concatenations do without some tensors; of one operand alone nothing is made.

    Dead nodes are left for ``RemoveUnusedNodesPass``, sizes to who narrows what is behind.

    Args:
        names: The tensors, at most all but one of a concatenation.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self._names = names

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the concatenations."""
        for node in list(model.graph):
            kept = [v for v in node.inputs if v is None or v.name not in self._names]
            if node.op_type != "Concat" or len(kept) == len(node.inputs):
                continue
            if len(kept) == 1 and not node.outputs[0].is_graph_output():
                (whole,) = kept
                assert whole is not None
                node.outputs[0].replace_all_uses_with(whole)
                continue
            node.resize_inputs(len(kept))
            for place, value in enumerate(kept):
                node.replace_input_with(place, value)
