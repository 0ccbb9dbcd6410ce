"""Graph passes, each an ``onnx_ir`` pass: one idea per file."""

from __future__ import annotations

from abc import abstractmethod

import onnx_ir as ir


class RewritePass(ir.passes.InPlacePass):
    """A pass that changes a graph as it is."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites the graph; whether that changes anything is not told."""
        self.rewrite(model)
        return ir.passes.PassResult(model, modified=True)

    @abstractmethod
    def rewrite(self, model: ir.Model) -> None:
        """Changes the graph."""
