"""A configuration as PyTorch runs it: the exported program without what is skipped.

``reference`` interprets the program and zeroes branches, to be sure; here the branches are
removed and the rest is one module, to be fast: run as it stands it is PyTorch eager, without
the calls of modules inside modules; ``torch.compile`` takes it, too.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read.traced import TracedReference
from skipc.compiler.verify.torch_reference import TorchReference, set_statistics

if TYPE_CHECKING:
    import torch

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.verify.torch_reference import Reference


def eager_module(reference: Reference, skipped: tuple[Unit, ...]) -> torch.fx.GraphModule:
    """Returns the configuration that skips ``skipped`` as a module.

    It takes the network's inputs in the program's order, and returns a tuple of the outputs in
    the order of ``reference.outputs``. Weights are shared with the program.

    Args:
        reference: What the configuration is verified against.
        skipped: The units to leave out.

    Raises:
        CheckpointError: The network is an ONNX graph, which PyTorch does not run.
    """
    if isinstance(reference, TracedReference):
        # What is skipped was not traced.
        return eager_module(reference.traced, ())
    if not isinstance(reference, TorchReference):
        raise CheckpointError(
            f"the reference is {reference.name!r}: the checkpoint is an ONNX graph, which"
            " PyTorch does not run."
        )
    module: torch.fx.GraphModule = copy.deepcopy(reference.program.graph_module)
    _keep_outputs(module, reference)
    _scale_branches(module, reference, skipped)
    _skip(module, reference, skipped)
    _set_norms(module, reference)
    _hold_weights(module, reference)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    return module


def input_names(reference: Reference) -> tuple[str, ...]:
    """Returns the names of the network's inputs in the order of the module's."""
    if isinstance(reference, TracedReference):
        return input_names(reference.traced)
    assert isinstance(reference, TorchReference)
    return tuple(
        name for name in reference.program.graph_signature.user_inputs if isinstance(name, str)
    )


def output_names(reference: Reference) -> tuple[str, ...]:
    """Returns the names of the outputs in the order in which ``eager_module`` returns them."""
    if isinstance(reference, TracedReference):
        return output_names(reference.traced)
    assert isinstance(reference, TorchReference)
    return tuple(reference.outputs)


def _nodes(module: torch.fx.GraphModule) -> dict[str, torch.fx.Node]:
    return {node.name: node for node in module.graph.nodes}


def _keep_outputs(module: torch.fx.GraphModule, reference: TorchReference) -> None:
    nodes = _nodes(module)
    end = next(node for node in module.graph.nodes if node.op == "output")
    end.args = (tuple(nodes[name] for name in reference.outputs.values()),)


def _scale_branches(
    module: torch.fx.GraphModule, reference: TorchReference, skipped: tuple[Unit, ...]
) -> None:
    import torch

    nodes = _nodes(module)
    joins = {unit.join for unit in skipped}
    for join, scale in reference.scales.items():
        if join in joins:
            continue
        node = nodes[reference.node_name(join)]
        operands = list(node.args)
        with module.graph.inserting_before(node):
            operands[scale.operand] = module.graph.call_function(
                torch.ops.aten.mul.Tensor, (operands[scale.operand], scale.factor)
            )
        node.args = tuple(operands)


def _skip(
    module: torch.fx.GraphModule, reference: TorchReference, skipped: tuple[Unit, ...]
) -> None:
    nodes = _nodes(module)
    for unit in skipped:
        node = nodes[reference.node_name(unit.join)]
        shortcut = node.args[unit.shortcut]
        node.replace_all_uses_with(shortcut)  # type: ignore[arg-type]


def _set_norms(module: torch.fx.GraphModule, reference: TorchReference) -> None:
    import torch

    nodes = _nodes(module)
    for name, norm in reference.norm_nodes().items():
        node = nodes[name]
        values = [_value(argument, reference) for argument in node.args]
        operands = list(values)
        set_statistics(node, operands, norm)
        arguments = list(node.args)
        for place, (before, after) in enumerate(zip(values, operands, strict=True)):
            if after is not before:
                assert isinstance(after, torch.Tensor)
                key = f"_{name}_{place}"
                module.register_buffer(key, after)
                with module.graph.inserting_before(node):
                    arguments[place] = module.graph.get_attr(key)
        node.args = tuple(arguments)


def _value(argument: object, reference: TorchReference) -> object:
    """Returns the tensor behind a placeholder of the program; other arguments as they are."""
    return reference.held_tensors().get(getattr(argument, "name", ""), argument)


def _hold_weights(module: torch.fx.GraphModule, reference: TorchReference) -> None:
    """Turns the program's inputs that are weights or constants into the module's own.

    An input that was given as a constant (None, a flag) is part of the program already.
    """
    nodes = _nodes(module)
    for number, (name, tensor) in enumerate(reference.held_tensors().items()):
        node = nodes[name]
        key = f"_held_{number}"
        module.register_buffer(key, tensor)
        with module.graph.inserting_before(node):
            node.replace_all_uses_with(module.graph.get_attr(key))
        module.graph.erase_node(node)
    taken = input_names(reference)
    for node in module.graph.find_nodes(op="placeholder"):
        if node.name not in taken and not node.users:
            module.graph.erase_node(node)
