"""Optimising an exported graph while its batch norms stay batch norms."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from skipc.compiler.graph.batch_norms import batch_norms

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

_ASIDE = "skipc.aside"


@contextmanager
def norms_kept(model: ir.Model, outputs: frozenset[str] | None = None) -> Iterator[None]:
    """Hides batch norms, or those that compute ``outputs``, from what runs in the block.

    The exporter's optimiser folds them into the kernels before them. Their statistics may
    change with the configuration, so skipc folds them itself, later.
    """
    norms = [
        node
        for node in batch_norms(model)
        if outputs is None or str(node.outputs[0].name) in outputs
    ]
    before = [node.domain for node in norms]
    for node in norms:
        node.domain = _ASIDE
    try:
        yield
    finally:
        for node, domain in zip(norms, before, strict=True):
            node.domain = domain
        model.graph.opset_imports.pop(_ASIDE, None)
