"""The inputs that are measured: given ones, golden ones, or these at another batch."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import click
import numpy as np

from skipc.compiler.bundle.array_files import read_arrays
from skipc.runtime.call.arrays import InputChecker
from skipc.runtime.errors import ChoiceError, InputError, choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from skipc.runtime import Bundle
    from skipc.runtime.backends import Arrays
    from skipc.runtime.bundle.tensors import BatchRange, TensorSpec

    Shapes = Mapping[str, tuple[int, ...]]

_SHAPE = re.compile(r"[1-9]\d{0,8}(x[1-9]\d{0,8})*|scalar", re.ASCII)


def shapes_from(text: str) -> Shapes:
    """Returns the shapes in ``images:1x3x224x224,ids:1x128``, or in one without its name.

    Raises:
        click.BadParameter: Something else is in it.
    """
    found: dict[str, tuple[int, ...]] = {}
    for word in map(str.strip, text.split(",") if text else ()):
        name, colon, shape = word.rpartition(":")
        if not _SHAPE.fullmatch(shape) or (colon and not name):
            raise click.BadParameter(
                f"{word!r} is no shape: write NAME:1x3x224x224, or 1x3x224x224 alone"
                " for the only input."
            )
        if name in found:
            raise click.BadParameter(f"{name or shape!r}: each input has one shape.")
        found[name] = () if shape == "scalar" else tuple(map(int, shape.split("x")))
    return found


def cases_from(bundle: Bundle, inputs: Path | None, shapes: Shapes) -> Sequence[Arrays]:
    """Returns the inputs of a file to measure with, else the golden ones; see ``cases_of``.

    Raises:
        InputError: They do not fit the network.
        ChoiceError: The shapes do not.
    """
    specs, source = bundle.manifest.inputs, inputs or "the bundle's golden inputs"
    if inputs is None:
        given = cases_of(bundle, shapes)
    else:
        given = [read_arrays(inputs, tuple(spec.name for spec in specs))]
    try:
        return [InputChecker(specs, bundle.manifest.batch).check(case) for case in given]
    except InputError as cause:
        raise InputError(f"{source}: {cause}") from cause


def typical_cases(bundle: Bundle) -> Sequence[Arrays]:
    """Returns the golden inputs at the typical batch; zeros where there is none of that size.

    With a dynamic batch there are golden inputs of its smallest and largest size, too: they
    would be measured as if they were one thing.
    """
    golden = [case for case in bundle.golden_inputs() if are_typical(bundle, [case])]
    return golden or [_sample(bundle)]


def are_typical(bundle: Bundle, cases: Sequence[Arrays]) -> bool:
    """Tells whether all of ``cases`` have the typical batch."""
    sample = _sample(bundle)
    return all(c[name].shape == array.shape for c in cases for name, array in sample.items())


def _sample(bundle: Bundle) -> Arrays:
    return InputChecker(bundle.manifest.inputs, bundle.manifest.batch).sample()


def cases_of(bundle: Bundle, shapes: Shapes) -> Sequence[Arrays]:
    """Returns the golden inputs at another batch: repeated, or cut.

    An input that is not named keeps its sizes, and takes the others' batch; an only one may
    be named ``""``.

    Raises:
        ChoiceError: There is no such input, or it does not take that shape.
    """
    specs = {spec.name: spec for spec in bundle.manifest.inputs}
    if "" in shapes and len(specs) == len(shapes) == 1:
        shapes = dict.fromkeys(specs, shapes[""])
    batches: dict[str, int] = {}
    for name, shape in shapes.items():
        if not name:
            raise ChoiceError(
                f"--shapes: the network has the inputs {', '.join(specs)}: name them, as in"
                f" {next(iter(specs))}:1x3x224x224."
            )
        if name not in specs:
            raise ChoiceError(f"--shapes: no input {name!r}. {choices_text(name, specs)}")
        sizes = _dynamic_sizes(specs[name], shape, bundle.manifest.batch)
        if sizes:
            batches[name] = sizes[-1]
    if len(set(batches.values())) > 1:
        listed = ", ".join(f"{name} {batch}" for name, batch in batches.items())
        raise ChoiceError(f"--shapes: the batches differ: {listed}. Give all the same one.")
    cases = [dict(case) for case in typical_cases(bundle)]
    for case in cases if batches else ():
        for name, spec in specs.items():
            for axis in (at for at, size in enumerate(spec.shape) if isinstance(size, str)):
                rows = np.arange(min(batches.values())) % case[name].shape[axis]
                case[name] = np.ascontiguousarray(np.take(case[name], rows, axis))
    return cases


def _dynamic_sizes(
    spec: TensorSpec, shape: tuple[int, ...], allowed: BatchRange | None
) -> list[int]:
    """Returns the sizes along the batch; ``ChoiceError`` where an input takes other shapes."""
    low, high = (allowed.minimum, allowed.maximum) if allowed else (1, math.inf)
    pairs = [*zip(spec.shape, shape, strict=False)]
    free = [given for size, given in pairs if isinstance(size, str)]
    fixed = all(size == given for size, given in pairs if not isinstance(size, str))
    if len(shape) == len(spec.shape) and fixed and all(low <= given <= high for given in free):
        return free
    wanted, takes = ("x".join(map(str, one)) or "scalar" for one in (shape, spec.shape))
    if allowed is not None and any(isinstance(size, str) for size in spec.shape):
        takes += f" with a batch of {low} to {high}"
    raise ChoiceError(
        f"--shapes: the input {spec.name!r} does not take {wanted}, but {takes}. The"
        " bundle was built for that; build another one for other sizes."
    )
