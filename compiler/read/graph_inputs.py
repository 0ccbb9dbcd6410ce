"""The inputs of a graph, whose file names them: open sizes settled, wishes checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read.inputs import BATCH, DTYPES, check_inputs, input_text
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime.bundle.tensors import BatchRange


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input as a graph's file has it.

    Attributes:
        name: Its name in the graph.
        dtype: NumPy's name of the element type.
        sizes: One entry per dimension, None for one that is open; None where not even their
            number is known.
    """

    name: str
    dtype: str
    sizes: tuple[int | None, ...] | None


def settle_inputs(
    found: Sequence[GraphInput],
    given: Sequence[TensorSpec],
    batch: BatchRange | None,
    where: str,
) -> tuple[TensorSpec, ...]:
    """Returns the graph's inputs, every size either fixed or the dynamic batch.

    An open size is fixed by ``--input``; an open first one is the dynamic batch where
    ``--batch`` is given.

    Args:
        found: The inputs as the file has them.
        given: What ``--input`` says; may be empty.
        batch: What ``--batch`` says.
        where: The file, for error messages.

    Raises:
        CheckpointError: ``given`` names an input the file does not have or contradicts it,
            or a size stays open.
    """
    names = [spec.name for spec in found]
    if not found:
        raise CheckpointError(f"{where}: the graph has no inputs. Export the network again.")
    if len(given) > len(found):
        raise CheckpointError(
            f"{where}: {len(given)} inputs are given, but the graph has {len(found)}:"
            f" {', '.join(names)}. Leave some --input out."
        )
    asked = {spec.name or name: spec for spec, name in zip(given, names, strict=False)}
    for name in asked:
        if name not in names:
            raise CheckpointError(
                f"{where}: the graph has no input {name!r}. {choices_text(name, names)}"
            )
    settled = tuple(_settle(spec, asked.get(spec.name), batch, where) for spec in found)
    check_inputs(settled, batch)
    return settled


def _settle(
    found: GraphInput, asked: TensorSpec | None, batch: BatchRange | None, where: str
) -> TensorSpec:
    if found.dtype not in DTYPES:
        raise CheckpointError(
            f"{where}: the input {found.name!r} is of type {found.dtype!r}, which the runtime"
            f" cannot be given. {choices_text(found.dtype, DTYPES)}"
        )
    if asked is None:
        return TensorSpec(found.name, found.dtype, _own_shape(found, batch, where))
    fits = found.sizes is None or (
        len(asked.shape) == len(found.sizes)
        and all(
            size is None or size == wanted
            for size, wanted in zip(found.sizes, asked.shape, strict=False)
        )
    )
    if asked.dtype != found.dtype or not fits:
        raise CheckpointError(
            f"{where}: --input {input_text(asked)} does not fit the graph's input"
            f" {_text(found)}. Give what is '?' there, or leave --input out."
        )
    return TensorSpec(found.name, found.dtype, asked.shape)


def _own_shape(
    found: GraphInput, batch: BatchRange | None, where: str
) -> tuple[Dimension, ...]:
    if found.sizes is None:
        raise CheckpointError(
            f"{where}: the shape of the graph's input {found.name!r} is not known. Give it:"
            f" --input {found.name}=SHAPE:{found.dtype}"
        )
    shape: list[Dimension] = []
    for index, size in enumerate(found.sizes):
        if size is not None:
            shape.append(size)
        elif index == 0 and batch is not None:
            shape.append(BATCH)
        else:
            sizes = ["1" if n is None else str(n) for n in found.sizes]
            fixed = f"--input {found.name}={'x'.join(sizes)}"
            fixed += "" if found.dtype == "float32" else f":{found.dtype}"
            ways = f" or add --batch MIN:TYPICAL:MAX, e.g. --batch 1:4:16, or fix it: {fixed}"
            raise CheckpointError(
                f"{where}: dimension {index} of the graph's input {_text(found)} is open."
                + (f" Either{ways.removeprefix(' or')}" if index == 0 else f" Fix it: {fixed}")
            )
    return tuple(shape)


def _text(found: GraphInput) -> str:
    known = ("?...",) if found.sizes is None else found.sizes
    sizes = "x".join("?" if size is None else str(size) for size in known)
    return f"{found.name}={sizes}:{found.dtype}"
