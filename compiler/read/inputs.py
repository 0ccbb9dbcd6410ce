"""What goes into a network: ``--input [NAME=]NxT[:dtype]``, ``--batch 1:4:16``, ``--dim``.

Inputs are matched with those that a module's ``forward`` takes, and tried.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError
from skipc.runtime.bundle.tensors import BATCH, Dimension, Size, TensorSpec, typical_sizes
from skipc.runtime.errors import choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

DTYPES = (
    *("bool", "float16", "float32", "float64", "int16"),
    *("int32", "int64", "int8", "uint8"),
)
"""NumPy's names of the element types that an input may have."""

MAX_ELEMENTS = 2**31
"""An input with more elements than this is a slip of the keyboard."""

_NAME = re.compile(r"[A-Za-wyz_][A-Za-wyz0-9_]{0,31}")
"""The name of a free dimension; an x stands between sizes."""

_EXAMPLE = (
    "Write it as [NAME=]SHAPE[:DTYPE], e.g. 1x3x224x224 or input_ids=NxT:int64; a single"
    " number as NAME=:DTYPE."
)


def parse_inputs(
    texts: Sequence[str], batch_text: str | None, dims: Sequence[str] = ()
) -> tuple[tuple[TensorSpec, ...], tuple[Dimension, ...]]:
    """Returns what ``--input``, ``--dim`` (any number of times) and ``--batch`` say.

    An input without a name has the name ``""``: it is found later, by position. Where no
    input is given at all the ranges stand alone: the checkpoint may give the inputs.

    Raises:
        CheckpointError: A text is malformed, or they do not go together.
    """
    inputs = tuple(parse_input(text) for text in texts)
    dimensions = tuple(map(parse_dim, dims))
    if batch_text is not None:
        dimensions = (_range("--batch", batch_text, BATCH, batch_text), *dimensions)
    free = [each.name for each in dimensions]
    again = next((name for name in free if free.count(name) > 1), None)
    if again is not None:
        both = "--batch and --dim N are the same" if again == BATCH else f"--dim {again}"
        raise CheckpointError(f"{both}, given twice. Give each range once.")
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
        check_inputs(inputs, dimensions)
    return inputs, dimensions


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


def parse_dim(text: str) -> Dimension:
    """Returns the free dimension that ``--dim NAME=MIN:TYP:MAX[:STEP]`` gives."""
    name, _, sizes = (part.strip() for part in text.partition("="))
    if not _NAME.fullmatch(name):
        raise CheckpointError(
            f"--dim {text!r}: {name!r} is no name of a dimension. Write it as"
            " NAME=MIN:TYPICAL:MAX, e.g. T=16:128:512, the name in letters, digits and '_',"
            " without an 'x'."
        )
    return _range("--dim", text, name, sizes)


def _range(option: str, text: str, name: str, sizes: str) -> Dimension:
    prefix, example = ("", "1:4:16") if option == "--batch" else (f"{name}=", "16:128:512")
    advice = f"Write it as {prefix}MIN:TYPICAL:MAX, e.g. {prefix}{example}."
    parts = sizes.split(":")
    most = 3 if option == "--batch" else 4
    digits = all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts)
    if not 3 <= len(parts) <= most or not digits:
        raise CheckpointError(f"{option} {text!r} is not three whole numbers. {advice}")
    minimum, typical, maximum, step = (*map(int, parts), 1)[:4]
    if not 1 <= minimum <= typical <= maximum:
        raise CheckpointError(
            f"{option} {text!r}: needs 1 <= MIN <= TYPICAL <= MAX,"
            f" found {minimum}, {typical}, {maximum}. {advice}"
        )
    if step < 1 or any(size % step for size in (minimum, typical, maximum)):
        raise CheckpointError(
            f"{option} {text!r}: MIN, TYPICAL and MAX must be multiples of STEP, found"
            f" {minimum}, {typical}, {maximum} and {step}. {advice}"
        )
    return Dimension(name, minimum, typical, maximum, step)


def check_inputs(inputs: Sequence[TensorSpec], dimensions: Sequence[Dimension]) -> None:
    """Checks the size of inputs, and that free dimensions are those that have a range."""
    largest = {each.name: each.maximum for each in dimensions}
    named = {size: spec for spec in inputs for size in spec.shape if isinstance(size, str)}
    for name, spec in named.items():
        if name not in largest:
            what, option = f"the free dimension {name!r}", f"--dim {name}=MIN:TYPICAL:MAX"
            example = f"--dim {name}=16:128:512"
            if name == BATCH:
                what, option = f"the free batch {BATCH!r}", "--batch MIN:TYPICAL:MAX"
                example = "--batch 1:4:16"
            raise CheckpointError(
                f"the input {input_text(spec)!r} has {what}, but its sizes are not given. Add"
                f" {option}, e.g. {example}."
            )
    for spec in inputs:
        elements = math.prod(spec.shape_at(largest))
        if elements > MAX_ELEMENTS:
            raise CheckpointError(
                f"the input {shown(input_text(spec))} has more than the {MAX_ELEMENTS}"
                " elements that an input may have. Check its shape."
            )
    listed = ", ".join(input_text(spec) for spec in inputs)
    for each in dimensions:
        if each.name == BATCH and BATCH not in named:
            raise CheckpointError(
                f"--batch {each.range} is given, but no input has a free batch: {listed}."
                f" Write {BATCH!r} as the first dimension, e.g. --input Nx3x224x224,"
                " or leave --batch out."
            )
        if each.name not in named:
            raise CheckpointError(
                f"--dim {each.name}={each.range} is given, but no input has a dimension"
                f" {each.name!r}: {listed}. Write the name in place of a size, e.g. --input"
                f" Nx{each.name}:int64, or leave --dim out."
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
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    dimensions: Sequence[Dimension],
    model: str,
) -> None:
    """Checks that the network takes such inputs, by one call with zeros and ones."""
    import torch

    arrays = {}
    for spec in inputs:
        make = torch.ones if spec.dtype == "bool" else torch.zeros
        shape = spec.shape_at(typical_sizes(dimensions))
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


def _parse_shape(text: str, shape_text: str) -> tuple[Size, ...]:
    shape: list[Size] = []
    for index, part in enumerate(shape_text.split("x") if shape_text else ()):
        if part == BATCH and index > 0:
            raise CheckpointError(
                f"--input {text!r}: {part!r} as dimension {index}. {BATCH!r} is the batch and"
                " stands first, e.g. Nx3x224x224; give another free dimension another name."
            )
        if _NAME.fullmatch(part):
            shape.append(part)
        elif re.fullmatch(r"[0-9]{1,10}", part) and int(part) > 0:
            shape.append(int(part))
        else:
            raise CheckpointError(
                f"--input {text!r}: dimension {index} is {part!r}, expected a whole number of"
                f" at least 1, or a name. {_EXAMPLE}"
            )
    return tuple(shape)
