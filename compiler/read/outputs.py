"""Which outputs a supernet keeps, and what they are called."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.errors import SupernetError
from skipc.runtime.bundle.sizes import UNKNOWN, names_in
from skipc.runtime.bundle.tensors import BATCH, Dimension, Size, TensorSpec
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import onnx_ir as ir
    from torch.export import ExportedProgram


@dataclass(frozen=True, slots=True)
class KeptOutput:
    """An output: what it will be called, its name in the exported graph, its node."""

    name: str
    value: str
    node: str


def program_outputs(
    model: ir.Model, program: ExportedProgram, output: str | None, exits: Sequence[str]
) -> tuple[KeptOutput, ...]:
    """Returns the outputs to keep: ``output``, else the logits, else all.

    With ``exits`` these, and the end behind them: ``output``, else the logits, else the last.

    A field is called by its key (``logits``, ``deep.x``), by its place (``output_0``), or
    ``output`` where it is the only one; a name that an input has gets ``_output`` appended.

    Raises:
        SupernetError: There is no tensor, or ``output`` is none of them.
    """
    fields = output_fields(program)
    inputs = {value.name for value in model.graph.inputs}
    nodes = [name for name in program.graph_signature.user_outputs if isinstance(name, str)]
    # A field is found by its place: the exporter may rename and copy, it does not reorder.
    return tuple(
        KeptOutput(
            name=f"{field}_output" if field in inputs else field,
            value=str(model.graph.outputs[fields[field]].name),
            node=nodes[fields[field]],
        )
        for field in _chosen_outputs(fields, output, exits)
    )


def keep_onnx_outputs(
    model: ir.Model, output: str | None, exits: Sequence[str]
) -> tuple[str, ...]:
    """Leaves only the outputs to keep, as above; returns the names of all that there were.

    Raises:
        SupernetError: There is none, or ``output`` is none of the graph's.
    """
    import onnx_ir.passes.common as common

    outputs = {str(value.name): value for value in model.graph.outputs}
    chosen = _chosen_outputs(outputs, output, exits)
    if chosen != list(outputs):
        model.graph.outputs.clear()
        model.graph.outputs.extend(outputs[name] for name in chosen)
        common.RemoveUnusedNodesPass()(model)
    return tuple(outputs)


def output_fields(program: ExportedProgram) -> dict[str, int]:
    """Returns what ``--output`` may choose, with the place in the graph's list of outputs."""
    from torch.utils import _pytree as pytree

    spec = program.call_spec.out_spec
    if spec is None:
        raise SupernetError("the exported program does not say what it returns.")
    tensors = itertools.count()
    leaves = [
        _Leaf(next(tensors) if isinstance(value, str) else None)
        for value in program.graph_signature.user_outputs
    ]
    tree = pytree.tree_unflatten(leaves, spec)
    return {name: place for name, place in _fields(tree, "") if place is not None}


@dataclass(frozen=True)
class _Leaf:
    place: int | None


def _fields(tree: object, prefix: str) -> Iterator[tuple[str, int | None]]:
    if isinstance(tree, _Leaf):
        yield prefix or "output", tree.place
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _fields(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, (list, tuple)):
        single = len(tree) == 1 and not prefix
        for index, value in enumerate(tree):
            own = prefix if single else f"{prefix or 'output'}_{index}"
            yield from _fields(value, own)


def _follows(size: str, axis: int, free: set[str]) -> bool:
    """Tells whether a size is known once those of the free dimensions are."""
    if size in (UNKNOWN, BATCH):
        return size == UNKNOWN or (axis == 0 and BATCH in free)
    names = names_in(size)
    return names is not None and names <= free - {BATCH}


def _chosen_outputs(
    names: Collection[str], output: str | None, exits: Sequence[str]
) -> list[str]:
    if not names:
        raise SupernetError("the network returns no tensor.")
    for number, name in enumerate(exits):
        if name not in names:
            raise SupernetError(
                f"--exit-outputs {name!r}: no such output. {choices_text(name, names)}"
            )
        if name in exits[:number]:
            raise SupernetError(f"--exit-outputs names {name!r} twice.")
    if exits:
        end = output or ("logits" if "logits" in names else list(names)[-1])
        if end in exits:
            raise SupernetError(
                f"--exit-outputs {end!r}: that is the network's end. Leave it out, or name"
                " another end with --output."
            )
        return [*exits, *_chosen_outputs(names, end, ())]
    if output is None:
        return ["logits"] if "logits" in names else list(names)
    if output not in names:
        raise SupernetError(
            f"--output {output!r}: no such output. {choices_text(output, names)}"
        )
    return [output]


def output_specs(
    model: ir.Model, dimensions: Sequence[Dimension], names: Sequence[str]
) -> tuple[TensorSpec, ...]:
    """Returns the graph's outputs; ``names`` are what ``--output`` could have chosen.

    Raises:
        SupernetError: A shape or type is unknown, or depends on more than free dimensions.
    """
    free = {each.name for each in dimensions}
    return tuple(_spec(value, free, names) for value in model.graph.outputs)


def _spec(value: ir.Value, free: set[str], names: Sequence[str]) -> TensorSpec:
    others = [name for name in names if name != value.name]
    advice = f" Choose another with --output. {choices_text('', others)}" if others else ""
    if value.shape is None or value.dtype is None:
        raise SupernetError(
            f"output {value.name!r}: its shape or type is unknown: it depends on what goes in."
            f"{advice}"
        )
    shape: list[Size] = []
    for axis, dim in enumerate(value.shape):
        size = dim if isinstance(dim, int) else dim.value
        # Shape inference may lose the batch's name, but not which dimension it is.
        if size is None and axis == 0 and BATCH in free:
            size = BATCH
        if size is None and free - {BATCH}:
            size = UNKNOWN
        if size is None or (isinstance(size, str) and not _follows(size, axis, free)):
            found = "" if isinstance(dim, int) or dim.value is None else f" ({dim.value})"
            raise SupernetError(
                f"output {value.name!r}: the size of dimension {axis}{found} is not known"
                " before the network runs; it may follow from free dimensions, and from the"
                f" batch only as the first.{advice}"
            )
        shape.append(size)
    return TensorSpec(str(value.name), np.dtype(value.dtype.numpy()).name, tuple(shape))
