"""The inputs that are measured: given ones, golden ones, or these at other sizes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from skipc.compiler.bundle.array_files import read_arrays
from skipc.runtime.bundle.tensors import at_sizes
from skipc.runtime.call.arrays import InputChecker
from skipc.runtime.errors import ChoiceError, InputError, choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from skipc.runtime import Bundle
    from skipc.runtime.backends import Arrays
    from skipc.runtime.bundle.tensors import Dimension, TensorSpec

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
        return [InputChecker(specs, bundle.manifest.dimensions).check(case) for case in given]
    except InputError as cause:
        raise InputError(f"{source}: {cause}") from cause


def typical_cases(bundle: Bundle) -> Sequence[Arrays]:
    """Returns the golden inputs at the typical sizes; zeros where there is none of those.

    With free dimensions there are golden inputs of other sizes, too: they would be measured
    as if they were one thing.
    """
    golden = [case for case in bundle.golden_inputs() if are_typical(bundle, [case])]
    return golden or [_sample(bundle)]


def are_typical(bundle: Bundle, cases: Sequence[Arrays]) -> bool:
    """Tells whether all of ``cases`` have the typical sizes."""
    sample = _sample(bundle)
    return all(c[name].shape == array.shape for c in cases for name, array in sample.items())


def _sample(bundle: Bundle) -> Arrays:
    return InputChecker(bundle.manifest.inputs, bundle.manifest.dimensions).sample()


def cases_of(bundle: Bundle, shapes: Shapes) -> Sequence[Arrays]:
    """Returns the golden inputs at other sizes: repeated, or cut.

    An input that is not named takes the free sizes of the others; an only one may be named
    ``""``.

    Raises:
        ChoiceError: There is no such input, or it does not take that shape.
    """
    specs = {spec.name: spec for spec in bundle.manifest.inputs}
    if "" in shapes and len(specs) == len(shapes) == 1:
        shapes = dict.fromkeys(specs, shapes[""])
    asked: dict[str, tuple[str, int]] = {}
    for name, shape in shapes.items():
        if not name:
            raise ChoiceError(
                f"--shapes: the network has the inputs {', '.join(specs)}: name them, as in"
                f" {next(iter(specs))}:1x3x224x224."
            )
        if name not in specs:
            raise ChoiceError(f"--shapes: no input {name!r}. {choices_text(name, specs)}")
        for free, given in _free_sizes(specs[name], shape, bundle.manifest.dimensions):
            whose, first = asked.setdefault(free, (name, given))
            if first != given:
                raise ChoiceError(
                    f"--shapes: {free} differs: {whose} {first}, {name} {given}. Give it one"
                    " size."
                )
    sizes = {free: given for free, (_, given) in asked.items()}
    return [at_sizes(case, specs.values(), sizes) for case in typical_cases(bundle)]


def _free_sizes(
    spec: TensorSpec, shape: tuple[int, ...], dimensions: Sequence[Dimension]
) -> list[tuple[str, int]]:
    """Returns the free sizes by name; ``ChoiceError`` where an input takes other shapes."""
    free = {each.name: each for each in dimensions if each.name in spec.shape}
    pairs = [*zip(spec.shape, shape, strict=False)]
    found = [(size, given) for size, given in pairs if isinstance(size, str)]
    fixed = all(size == given for size, given in pairs if not isinstance(size, str))
    within = all(free[name].takes(given) for name, given in found)
    if len(shape) == len(spec.shape) and fixed and within:
        return found
    wanted, takes = ("x".join(map(str, one)) or "scalar" for one in (shape, spec.shape))
    ranges = (f"{each.name} from {each.text}" for each in free.values())
    takes += f" with {' and '.join(ranges)}" if free else ""
    raise ChoiceError(
        f"--shapes: the input {spec.name!r} does not take {wanted}, but {takes}. The"
        " bundle was built for that; build another one for other sizes."
    )
