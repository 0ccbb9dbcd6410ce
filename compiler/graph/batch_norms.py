"""Finding the batch norms of a supernet graph."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.graph.index import module_path, node_inputs, numbered
from skipc.compiler.graph.operands import MEAN, constant, operand

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

_ASIDE = "skipc.aside"

KERNEL_OPS = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Operators that a batch norm behind them can be folded into."""


@dataclass(frozen=True, slots=True)
class Norm:
    """One batch norm.

    Attributes:
        name: Its module path, numbered where a module holds several.
        output: Name of the value it computes.
        channels: Entries of its statistics.
        folds: Whether it stands right behind a kernel, which folding would change. One that
            does not costs nothing to keep: its statistics are a few numbers of its own.
    """

    name: str
    output: str
    channels: int
    folds: bool


def find_norms(model: ir.Model) -> tuple[Norm, ...]:
    """Returns the batch norms of data with constant statistics, in network order."""
    nodes = [node for node in batch_norms(model) if is_norm(node)]
    names = numbered([module_path(node) or str(node.outputs[0].name) for node in nodes])
    norms = []
    for node, name in zip(nodes, names, strict=True):
        channels = constant(node, MEAN).size
        norms.append(Norm(name, str(node.outputs[0].name), channels, folds(node)))
    return tuple(norms)


def batch_norms(model: ir.Model) -> list[ir.Node]:
    """Returns the ``BatchNormalization`` nodes that the network's inputs reach."""
    reached = set(model.graph.inputs)
    found = []
    for node in model.graph:
        if any(value in reached for value in node_inputs(node)):
            reached.update(node.outputs)
            if node.op_type == "BatchNormalization":
                found.append(node)
    return found


@contextmanager
def norms_kept(model: ir.Model) -> Iterator[None]:
    """Hides batch norms from what runs in the block.

    The exporter's optimiser folds them into the kernels before them. Their statistics may
    change with the configuration, so skipc folds them itself, later.
    """
    norms = batch_norms(model)
    before = [node.domain for node in norms]
    for node in norms:
        node.domain = _ASIDE
    try:
        yield
    finally:
        for node, domain in zip(norms, before, strict=True):
            node.domain = domain
        model.graph.opset_imports.pop(_ASIDE, None)


def is_norm(node: ir.Node) -> bool:
    """Tells whether ``node`` is a batch norm in inference form with constant statistics."""
    if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx"):
        return False
    if len(node.outputs) != 1 or node.attributes.get_int("training_mode", False):
        return False
    return all(
        value is not None and value.const_value is not None for value in node.inputs[1:5]
    )


def folds(norm: ir.Node) -> bool:
    """Tells whether ``norm`` can be folded into the kernel before it.

    As onnxscript's rule: the kernel's result is read by the norm alone, its weights by it.
    """
    data = operand(norm, 0)
    kernel = data.producer()
    if kernel is None or kernel.op_type not in KERNEL_OPS:
        return False
    if data.is_graph_output() or len(data.consumers()) != 1:
        return False
    return all(
        value is not None
        and value.is_initializer()
        and all(user is kernel for user, _ in value.uses())
        for value in kernel.inputs[1:]
    )
