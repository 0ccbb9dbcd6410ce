"""What goes into a network: ``--input [NAME=]1x3x224x224[:dtype]``, ``--batch 1:4:16``.

Inputs are matched with those that a module's ``forward`` takes, and tried.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError
from skipc.runtime.bundle.tensors import BatchRange, Dimension, TensorSpec
from skipc.runtime.errors import choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

BATCH = "N"
"""The dynamic batch in a shape; only ever the first dimension."""

DTYPES = (
    *("bool", "float16", "float32", "float64", "int16"),
    *("int32", "int64", "int8", "uint8"),
)
"""NumPy's names of the element types that an input may have."""

MAX_ELEMENTS = 2**31
"""An input with more elements than this is a slip of the keyboard."""

_EXAMPLE = (
    "Write it as [NAME=]SHAPE[:DTYPE], e.g. 1x3x224x224 or input_ids=1x128:int64; a single"
    " number as NAME=:DTYPE."
)


def parse_inputs(
    texts: Sequence[str], batch_text: str | None
) -> tuple[tuple[TensorSpec, ...], BatchRange | None]:
    """Returns what ``--input`` (any number of times) and ``--batch`` say.

    An input without a name has the name ``""``: it is found later, by position. Where no
    input is given at all the batch stands alone: the checkpoint may give the inputs.

    Raises:
        CheckpointError: A text is malformed, or they do not go together.
    """
    inputs = tuple(parse_input(text) for text in texts)
    batch = None if batch_text is None else parse_batch(batch_text)
    names = [spec.name for spec in inputs if spec.name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CheckpointError(f"--input {twice!r} is given twice. Give each input once.")
    if names and len(names) < len(inputs):
        raise CheckpointError(
            f"--input: {len(names)} of {len(inputs)} inputs are named. Name all of them, or"
            " none: then they are taken in the order of the network's inputs."
        )
    if inputs:
        check_inputs(inputs, batch)
    return inputs, batch


def parse_input(text: str) -> TensorSpec:
    """Returns one ``--input``; its name is ``""`` where the text has none."""
    name, equals, rest = text.rpartition("=")
    if equals and not name.strip():
        raise CheckpointError(f"--input {text!r}: the name before '=' is empty. {_EXAMPLE}")
    shape_text, colon, dtype = rest.partition(":")
    if not colon:
        dtype = "float32"
    if not shape_text and not (equals and colon):
        raise CheckpointError(f"--input {text!r}: has no shape. {_EXAMPLE}")
    if dtype not in DTYPES:
        raise CheckpointError(
            f"--input {text!r}: unknown dtype {dtype!r}. {choices_text(dtype, DTYPES)}"
        )
    return TensorSpec(name.strip(), dtype, _parse_shape(text, shape_text))


def parse_batch(text: str) -> BatchRange:
    """Returns the range that ``--batch MIN:TYP:MAX`` gives."""
    example = "Write it as MIN:TYPICAL:MAX, e.g. 1:4:16."
    parts = text.split(":")
    if len(parts) != 3 or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise CheckpointError(f"--batch {text!r} is not three whole numbers. {example}")
    minimum, typical, maximum = (int(part) for part in parts)
    if not 1 <= minimum <= typical <= maximum:
        raise CheckpointError(
            f"--batch {text!r}: needs 1 <= MIN <= TYPICAL <= MAX,"
            f" found {minimum}, {typical}, {maximum}. {example}"
        )
    return BatchRange(minimum, typical, maximum)


def check_inputs(inputs: Sequence[TensorSpec], batch: BatchRange | None) -> None:
    """Checks the size of inputs, and that there is a dynamic batch where it has a range."""
    for spec in inputs:
        elements = math.prod(spec.shape_at(1))
        if elements > MAX_ELEMENTS:
            raise CheckpointError(
                f"the input {shown(input_text(spec))} has more than the {MAX_ELEMENTS}"
                " elements that an input may have. Check its shape."
            )
    dynamic = next((spec for spec in inputs if BATCH in spec.shape), None)
    if dynamic is not None and batch is None:
        raise CheckpointError(
            f"the input {input_text(dynamic)!r} has the dynamic batch {BATCH!r}, but its sizes"
            " are not given. Add --batch MIN:TYPICAL:MAX, e.g. --batch 1:4:16."
        )
    if dynamic is None and batch is not None:
        range_text = f"{batch.minimum}:{batch.typical}:{batch.maximum}"
        listed = ", ".join(input_text(spec) for spec in inputs)
        raise CheckpointError(
            f"--batch {range_text} is given, but no input has a dynamic batch: {listed}."
            f" Write {BATCH!r} as the first dimension, e.g. --input Nx3x224x224,"
            " or leave --batch out."
        )


def input_text(spec: TensorSpec) -> str:
    """Returns the ``--input`` text that means ``spec``."""
    name = f"{spec.name}=" if spec.name else ""
    dtype = "" if spec.dtype == "float32" and spec.shape else f":{spec.dtype}"
    return f"{name}{'x'.join(str(size) for size in spec.shape)}{dtype}"


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

    arrays = {}
    for spec in inputs:
        make = torch.ones if spec.dtype == "bool" else torch.zeros
        shape = spec.shape_at(1 if batch is None else batch.typical)
        arrays[spec.name] = make(shape, dtype=getattr(torch, spec.dtype))
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


def _parse_shape(text: str, shape_text: str) -> tuple[Dimension, ...]:
    shape: list[Dimension] = []
    for index, part in enumerate(shape_text.split("x") if shape_text else ()):
        if part == BATCH and index == 0:
            shape.append(BATCH)
        elif part in (BATCH, BATCH.lower()):
            raise CheckpointError(
                f"--input {text!r}: {part!r} as dimension {index}; only the first dimension"
                f" may be dynamic, written {BATCH!r}, e.g. Nx3x224x224."
            )
        elif re.fullmatch(r"[0-9]{1,10}", part) and int(part) > 0:
            shape.append(int(part))
        else:
            raise CheckpointError(
                f"--input {text!r}: dimension {index} is {part!r}, expected a whole number of"
                f" at least 1. {_EXAMPLE}"
            )
    return tuple(shape)
