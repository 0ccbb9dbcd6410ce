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


def refuse_random_program(program: ExportedProgram) -> None:
    """Checks that no operator of ``program`` draws random numbers.

    Raises:
        SupernetError: One does; the message names its module.
    """
    for node in program.graph.nodes:
        if node.op == "call_function" and _draws(node):
            raise _error(str(node.target).removesuffix(".default"), _fx_module(node))


def refuse_random_graph(model: ir.Model) -> None:
    """Checks that no operator of an ONNX graph draws random numbers.

    Raises:
        SupernetError: One does; the message names its module or node.
    """
    for node in model.graph.all_nodes():
        training = node.op_type == "Dropout" and _is_training(node)
        if node.op_type in _RANDOM_ONNX or training:
            raise _error(node.op_type, module_path(node) or str(node.name))


def _draws(node: torch.fx.Node) -> bool:
    import torch

    tags = getattr(node.target, "tags", ())
    if torch.Tag.nondeterministic_seeded not in tags:
        return False
    # These carry the tag for their training mode; a probability of zero draws nothing.
    name = str(node.target)
    if "attention" in name:
        return bool(_argument(node, "dropout_p", 0.0))
    if "dropout" in name:
        return bool(_argument(node, "train", True)) and bool(_argument(node, "p", 1.0))
    if "rrelu" in name:
        return bool(_argument(node, "training", False))
    return True


def _argument(node: torch.fx.Node, name: str, default: object) -> object:
    import torch

    if name in node.kwargs:
        return node.kwargs[name]
    assert isinstance(node.target, torch._ops.OpOverload)
    for value, argument in zip(node.args, node.target._schema.arguments, strict=False):
        if argument.name == name:
            return value
    return default


def _fx_module(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return paths[-1] if paths else ""


def _is_training(node: ir.Node) -> bool:
    flag = node.inputs[2] if len(node.inputs) > 2 else None
    if flag is None:
        return False
    tensor = flag.const_value
    return tensor is None or bool(tensor.numpy())


def _error(operator: str, module: str) -> SupernetError:
    where = f"module {module!r}" if module else "the network's own forward"
    return SupernetError(
        f"{where} draws random numbers ({operator}) in eval mode, so its outputs would be"
        " random on the device. Make it deterministic when `self.training` is False"
        " (stochastic depth returns its input unchanged then)."
    )
