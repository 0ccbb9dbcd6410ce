"""The network's inputs: those asked for, matched with those its ``forward`` takes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read.inputs import input_text, sizes_for
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from skipc.runtime.bundle.tensors import BatchRange


def named_inputs(module: nn.Module, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Returns ``inputs`` with the names of ``forward``'s parameters, in its order.

    Inputs without a name take the parameters from the first on.

    Raises:
        CheckpointError: ``forward`` has no such parameter, too few of them, or needs another.
    """
    parameters = [
        parameter
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    names = [parameter.name for parameter in parameters]
    network = type(module).__name__
    if not names:
        raise CheckpointError(
            f"the forward of {network!r} names no parameter, so its inputs have no names."
            " Give it named parameters, e.g. def forward(self, images)."
        )
    if len(inputs) > len(names):
        raise CheckpointError(
            f"{len(inputs)} inputs are given, but the forward of {network!r} takes"
            f" {len(names)}: {', '.join(names)}. Leave some --input out."
        )
    named = tuple(
        spec if spec.name else TensorSpec(name, spec.dtype, spec.shape)
        for spec, name in zip(inputs, names, strict=False)
    )
    for spec in named:
        if spec.name not in names:
            raise CheckpointError(
                f"the input {spec.name!r} is no parameter of the forward of {network!r}."
                f" {choices_text(spec.name, names)}"
            )
    given = {spec.name for spec in named}
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in given:
            raise CheckpointError(
                f"the forward of {network!r} also needs {parameter.name!r}. Add"
                f" --input {parameter.name}=SHAPE[:DTYPE] beside {', '.join(sorted(given))}."
            )
    return tuple(sorted(named, key=lambda spec: names.index(spec.name)))


def check_runs(
    module: nn.Module, inputs: Sequence[TensorSpec], batch: BatchRange | None, model: str
) -> None:
    """Checks that the network takes such inputs, by one call with zeros and ones."""
    import torch

    arrays = {spec.name: _example(spec, batch) for spec in inputs}
    listed = " ".join(f"--input {input_text(spec)}" for spec in inputs)
    try:
        with torch.no_grad():
            module(**arrays)
    # The user's forward: anything can come out of it.
    except Exception as cause:
        reason = " ".join(str(cause).split())
        reason = reason if len(reason) <= 300 else f"{reason[:300]} ..."
        raise CheckpointError(
            f"{model} does not run on {listed}: {type(cause).__name__}: {reason}."
            " Give the shape and dtype that the network was trained with."
        ) from cause


def _example(spec: TensorSpec, batch: BatchRange | None) -> torch.Tensor:
    import torch

    dtype = getattr(torch, spec.dtype)
    make = torch.ones if spec.dtype == "bool" else torch.zeros
    return make(sizes_for(spec, batch), dtype=dtype)
