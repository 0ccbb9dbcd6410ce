"""Folds batch norms into the kernels before them, by onnxscript's rules."""

from __future__ import annotations

import onnx_ir as ir

from skipc.compiler.graph.passes.keep_norms import norms_kept
from skipc.compiler.graph.passes.tidy_export import KeepModulePathPass
from skipc.compiler.norms.find import find_norms


class FoldNormsPass(ir.passes.InPlacePass):
    """Folds every batch norm that stands behind a kernel of its own.

    Args:
        kept: Outputs of the batch norms to leave as they are.
    """

    def __init__(self, kept: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._kept = kept

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites the kernels; node metadata stays the module path alone."""
        if all(norm.output in self._kept for norm in find_norms(model) if norm.folds):
            return ir.passes.PassResult(model, modified=False)
        # An ONNX supernet without batch norms is built without onnxscript.
        from onnxscript.rewriter import RewritePass
        from onnxscript.rewriter.rules.common import (
            fuse_batchnorm_into_conv_rule,
            fuse_batchnorm_into_conv_transpose_rule,
            fuse_batchnorm_into_gemm_rule,
        )

        rules = (
            fuse_batchnorm_into_conv_rule,
            fuse_batchnorm_into_conv_transpose_rule,
            fuse_batchnorm_into_gemm_rule,
        )
        with norms_kept(model, self._kept):
            modified = RewritePass(rules)(model).modified
        KeepModulePathPass()(model)
        return ir.passes.PassResult(model, modified=modified)
