"""What the tensors are that go into a graph and come out of it, and which sizes are free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np

from ..errors import FormatError
from .constraints import Count, OneOf
from .sizes import size_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

DTYPES = (
    *("bool", "float16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""Element types that an input or an output may have, by NumPy's names."""

BATCH = "N"
"""The free dimension in which samples lie side by side, each computed by itself."""

Size = int | str
"""A size: a fixed one, a free dimension's name, or what follows from some; see ``sizes``."""

Sizes = Mapping[str, int]
"""Sizes of the free dimensions, by their names."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """A free dimension: the sizes that it may have, and the one to optimise for.

    Its sizes are multiples of ``step``.
    """

    name: str
    minimum: Count
    typical: Count
    maximum: Count
    step: Count = 1

    @property
    def text(self) -> str:
        """Its sizes in words, e.g. ``32 to 512 in steps of 32``."""
        steps = f" in steps of {self.step}" if self.step > 1 else ""
        return f"{self.minimum} to {self.maximum}{steps}"

    @property
    def range(self) -> str:
        """Its sizes as the command line has them, e.g. ``1:4:16``."""
        step = f":{self.step}" if self.step > 1 else ""
        return f"{self.minimum}:{self.typical}:{self.maximum}{step}"

    def takes(self, size: int) -> bool:
        """Tells whether it may have this size."""
        return self.minimum <= size <= self.maximum and size % self.step == 0

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where the sizes are not in order, or the name is no word."""
        if not self.name.isidentifier() or not self.name.isascii():
            raise FormatError(f"{where}: the name {self.name[:80]!r} is no word.")
        if not self.minimum <= self.typical <= self.maximum:
            raise FormatError(f"{where}: needs minimum <= typical <= maximum, found {self}.")
        if any(size % self.step for size in (self.minimum, self.typical, self.maximum)):
            raise FormatError(f"{where}: needs multiples of step, found {self}.")


def batch_in(dimensions: Iterable[Dimension]) -> Dimension | None:
    """Returns the batch, where that is free."""
    return next((each for each in dimensions if each.name == BATCH), None)


def corner_sizes(dimensions: Iterable[Dimension]) -> tuple[Sizes, Sizes, Sizes]:
    """Returns the typical sizes, the smallest and the largest ones; empty if none is free."""
    free = tuple(dimensions)
    return (
        typical_sizes(free),
        {each.name: each.minimum for each in free},
        {each.name: each.maximum for each in free},
    )


def typical_sizes(dimensions: Iterable[Dimension]) -> dict[str, int]:
    """Returns the size of each dimension to optimise for."""
    return {each.name: each.typical for each in dimensions}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph, or of all of a family.

    Attributes:
        name: The tensor's name in the graph.
        dtype: NumPy's name of the element type, e.g. ``float32`` or ``int64``.
        shape: One entry per dimension; a string names a free one, or what follows from some.
    """

    name: str
    dtype: Annotated[str, OneOf(DTYPES)]
    shape: tuple[Count | str, ...]

    @property
    def kind(self) -> str:
        """Its type and shape in words, e.g. ``float32 Nx3x224x224``."""
        sizes = (f"[{s}]" if _is_computed(s) else str(s) for s in self.shape)
        return f"{self.dtype} {'x'.join(sizes) or 'scalar'}"

    def shape_at(self, sizes: Sizes) -> tuple[int, ...]:
        """Returns the shape at some sizes; -1 where they do not tell."""
        return tuple(
            size_at(size, sizes) if isinstance(size, str) else size for size in self.shape
        )

    def misfit(self, found: object, sizes: Sizes) -> str | None:
        """Returns what ``found`` is instead of this tensor, in words; None where it is one.

        A dimension that ``sizes`` do not tell may have any size.
        """
        shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
        if not isinstance(shape, tuple) or not isinstance(dtype, np.dtype):
            return f"a {type(found).__name__}"
        wanted = self.shape_at(sizes)
        fits = len(shape) == len(wanted) and all(
            each in (-1, size) for size, each in zip(shape, wanted, strict=True)
        )
        if fits and dtype == np.dtype(self.dtype):
            return None
        return TensorSpec(self.name, str(dtype), shape).kind


def _is_computed(size: Size) -> bool:
    return isinstance(size, str) and not size.isidentifier()


class Tensor(Protocol):
    """What is known of a tensor."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def shape(self) -> Sequence[int | str | None]:
        """Its sizes; a text names a free one."""


def row_axes(tensors: Iterable[Tensor]) -> dict[str, int]:
    """Returns the dimension that the rows lie in, of each tensor that has a free batch."""
    return {
        tensor.name: axis
        for tensor in tensors
        for axis, size in enumerate(tensor.shape)
        if size == BATCH
    }


def sizes_of(arrays: Mapping[str, Any], specs: Iterable[TensorSpec]) -> dict[str, int]:
    """Returns the sizes of the free dimensions, of arrays that fit ``specs``.

    Of arrays between two graphs those that follow from them, too, by what they are called.
    """
    return {
        size: found
        for spec in specs
        for found, size in zip(arrays[spec.name].shape, spec.shape, strict=True)
        if isinstance(size, str)
    }


def at_sizes(
    arrays: Mapping[str, NDArray[Any]], specs: Iterable[TensorSpec], sizes: Sizes
) -> dict[str, NDArray[Any]]:
    """Returns inputs at other sizes of some free dimensions: cut, or repeated."""
    made = dict(arrays)
    for spec in specs:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str) and size in sizes:
                array = made[spec.name]
                places = np.arange(sizes[size]) % array.shape[axis]
                made[spec.name] = np.ascontiguousarray(np.take(array, places, axis))
    return made


def misfit(
    found: Mapping[str, object], expected: Iterable[TensorSpec], sizes: Sizes
) -> str | None:
    """Returns how outputs differ from those that were promised; None where they do not.

    A dimension that ``sizes`` do not tell may have any size.
    """
    specs = {spec.name: spec for spec in expected}
    if found.keys() != specs.keys():
        names = (", ".join(map(repr, each)) or "none" for each in (found, specs))
        return "the outputs are {}, expected {}".format(*names)
    for name, spec in specs.items():
        kind = spec.misfit(found[name], sizes)
        if kind is not None:
            return f"the output {name!r} is {kind}, expected {spec.kind}"
    return None
