"""Refusing networks whose outputs are random: stochastic depth or dropout still active."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.index import module_path

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch
    from torch.export import ExportedProgram

_RANDOM_ONNX = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike"}
)

_SWITCHES = frozenset({"dropout", "dropout_p", "p", "train", "training"})
"""Arguments of which each must be on, or above zero, for an operator to draw."""


def refuse_random_program(program: ExportedProgram) -> None:
    """Refuses a program of which an operator draws random numbers; names its module."""
    for node in program.graph.nodes:
        if node.op == "call_function" and _draws(node):
            stack = node.meta.get("nn_module_stack") or {}
            module = [path for path, _ in stack.values()][-1:]
            raise _error(str(node.target).removesuffix(".default"), "".join(module))


def refuse_random_graph(model: ir.Model) -> None:
    """Refuses an ONNX graph of which an operator draws random numbers; names its module."""
    for node in model.graph.all_nodes():
        flag = node.inputs[2] if node.op_type == "Dropout" and len(node.inputs) > 2 else None
        constant = flag.const_value if flag is not None else None
        training = flag is not None and (constant is None or bool(constant.numpy()))
        if node.op_type in _RANDOM_ONNX or training:
            raise _error(node.op_type, module_path(node) or str(node.name))


def _draws(node: torch.fx.Node) -> bool:
    """Tells whether an operator draws with the arguments that it has.

    Dropout, attention and recurrent layers are tagged for their training mode: what has such
    a switch, or a probability of zero, draws nothing.
    """
    import torch

    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    assert isinstance(node.target, torch._ops.OpOverload)
    given = dict(zip([a.name for a in node.target._schema.arguments], node.args, strict=False))
    given.update(node.kwargs)
    settings = [
        given.get(a.name, a.default_value)
        for a in node.target._schema.arguments
        if a.name in _SWITCHES
    ]
    return all(value is None or bool(value) for value in settings)


def _error(operator: str, module: str) -> SupernetError:
    where = f"module {module!r}" if module else "the network's own forward"
    return SupernetError(
        f"{where} draws random numbers ({operator}) in eval mode, so its outputs would be"
        " random on the device. Make it deterministic when `self.training` is False"
        " (stochastic depth returns its input unchanged then)."
    )
