"""``--shapes``: inputs of another batch, made from the golden ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from skipc.runtime.errors import ChoiceError, choices_text
from skipc.tools.trtbench.running.cases import typical_cases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skipc.runtime import Bundle
    from skipc.runtime.backends import Arrays
    from skipc.runtime.bundle.manifest import BatchRange, TensorSpec

_SHAPE = re.compile(r"[1-9]\d{0,8}(x[1-9]\d{0,8})*|scalar", re.ASCII)

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Name and shape of each input given; the name is empty where it was left out."""


class ShapesType(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions
    """Shapes of inputs, ``images:1x3x224x224,ids:1x128``, or one without its name."""

    name = "shapes"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shapes:
        """Returns the shapes in ``value``, each name once."""
        if isinstance(value, tuple):
            return value
        found: dict[str, tuple[int, ...]] = {}
        for word in str(value).split(","):
            name, colon, shape = word.strip().rpartition(":")
            if not _SHAPE.fullmatch(shape) or (colon and not name):
                self.fail(
                    f"{word.strip()!r} is no shape: write NAME:1x3x224x224, or 1x3x224x224"
                    " alone for the only input.",
                    param,
                    ctx,
                )
            if name in found:
                self.fail(f"{name or shape!r}: each input has one shape.", param, ctx)
            sizes = () if shape == "scalar" else tuple(map(int, shape.split("x")))
            found[name] = sizes
        return tuple(found.items())


def cases_of(bundle: Bundle, shapes: Shapes) -> Sequence[Arrays]:
    """Returns the golden inputs at another batch: repeated, or cut.

    An input that is not named keeps its sizes, and takes the others' batch.

    Args:
        bundle: The bundle.
        shapes: The shapes, each as the manifest allows it.

    Raises:
        ChoiceError: There is no such input, or it does not take that shape.
    """
    specs = {spec.name: spec for spec in bundle.manifest.inputs}
    batches = {}
    for name, shape in _named(shapes, tuple(specs)).items():
        batch = _batch(specs[name], shape, bundle.manifest.batch)
        if batch is not None:
            batches[name] = batch
    if len(set(batches.values())) > 1:
        listed = ", ".join(f"{name} {batch}" for name, batch in batches.items())
        raise ChoiceError(f"--shapes: the batches differ: {listed}. Give all the same one.")
    cases = typical_cases(bundle)
    for batch in batches.values():
        return [
            {name: _resized(array, specs[name], batch) for name, array in case.items()}
            for case in cases
        ]
    return cases


def _named(shapes: Shapes, names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    found = dict(shapes)
    if "" in found:
        if len(names) > 1 or len(found) > 1:
            raise ChoiceError(
                f"--shapes: the network has the inputs {', '.join(names)}: name them, as in"
                f" {names[0]}:1x3x224x224."
            )
        return {names[0]: found[""]}
    for name in found:
        if name not in names:
            raise ChoiceError(f"--shapes: no input {name!r}. {choices_text(name, names)}")
    return found


def _batch(spec: TensorSpec, shape: tuple[int, ...], allowed: BatchRange | None) -> int | None:
    """Returns the batch in ``shape``; None where the input has none."""
    batch = None
    fits = len(shape) == len(spec.shape)
    for size, given in zip(spec.shape, shape, strict=False):
        if isinstance(size, int):
            fits = fits and size == given
        else:
            batch = given
            fits = fits and (allowed is None or allowed.minimum <= given <= allowed.maximum)
    if not fits:
        wanted = "x".join(map(str, shape)) or "scalar"
        takes = "x".join(map(str, spec.shape)) or "scalar"
        if allowed is not None and any(isinstance(size, str) for size in spec.shape):
            takes += f" with a batch of {allowed.minimum} to {allowed.maximum}"
        raise ChoiceError(
            f"--shapes: the input {spec.name!r} does not take {wanted}, but {takes}. The"
            " bundle was built for that; build another one for other sizes."
        )
    return batch


def _resized(array: NDArray[Any], spec: TensorSpec, batch: int) -> NDArray[Any]:
    """Returns ``array`` with its rows repeated, or cut, to ``batch`` of them."""
    for axis, size in enumerate(spec.shape):
        if isinstance(size, str):
            rows = np.arange(batch) % array.shape[axis]
            array = np.ascontiguousarray(np.take(array, rows, axis))
    return array
