"""What the tensors are that go into a graph and come out of it, and the batch they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np

from ..errors import FormatError
from .constraints import Count, OneOf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DTYPES = (
    *("bool", "float16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""Element types that an input or an output may have, by NumPy's names."""

Dimension = int | str
"""A dimension: a fixed size, or the name of the dynamic batch (``"N"``)."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph, or of all of a family.

    Attributes:
        name: The tensor's name in the graph.
        dtype: NumPy's name of the element type, e.g. ``float32`` or ``int64``.
        shape: One entry per dimension; a string marks the dynamic batch.
    """

    name: str
    dtype: Annotated[str, OneOf(DTYPES)]
    shape: tuple[Count | str, ...]

    @property
    def kind(self) -> str:
        """Its type and shape in words, e.g. ``float32 Nx3x224x224``."""
        return f"{self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"

    def shape_at(self, batch: int) -> tuple[int, ...]:
        """Returns the shape at a size of the dynamic batch, on which it need not depend."""
        return tuple(batch if isinstance(size, str) else size for size in self.shape)

    def misfit(self, found: object, batch: int | None = None) -> str | None:
        """Returns what ``found`` is instead of this tensor, in words; None where it is one.

        ``batch`` is the dynamic batch that it must have; None for any.
        """
        shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
        if not isinstance(shape, tuple) or not isinstance(dtype, np.dtype):
            return f"a {type(found).__name__}"
        fits = len(shape) == len(self.shape) and all(
            batch in (None, size) if isinstance(wanted, str) else size == wanted
            for size, wanted in zip(shape, self.shape, strict=True)
        )
        if fits and dtype == np.dtype(self.dtype):
            return None
        return TensorSpec(self.name, str(dtype), shape).kind


class Tensor(Protocol):
    """What is known of a tensor."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def shape(self) -> Sequence[int | str]:
        """Its sizes; a name marks the dynamic batch."""


def row_axes(tensors: Iterable[Tensor]) -> dict[str, int]:
    """Returns the dimension that the rows lie in, of each tensor that has one."""
    return {
        tensor.name: axis
        for tensor in tensors
        for axis, size in enumerate(tensor.shape)
        if isinstance(size, str)
    }


def batch_of(arrays: Mapping[str, Any], specs: Iterable[TensorSpec]) -> int | None:
    """Returns the dynamic batch of arrays that fit ``specs``; None where no shape has one."""
    sizes = (
        found
        for spec in specs
        for found, size in zip(arrays[spec.name].shape, spec.shape, strict=True)
        if isinstance(size, str)
    )
    return next(sizes, None)


def misfit(
    found: Mapping[str, object], expected: Iterable[TensorSpec], batch: int | None = None
) -> str | None:
    """Returns how outputs differ from those that were promised; None where they do not.

    ``batch`` is the dynamic batch that they must have; None for any.
    """
    specs = {spec.name: spec for spec in expected}
    if found.keys() != specs.keys():
        names = (", ".join(map(repr, each)) or "none" for each in (found, specs))
        return "the outputs are {}, expected {}".format(*names)
    for name, spec in specs.items():
        kind = spec.misfit(found[name], batch)
        if kind is not None:
            return f"the output {name!r} is {kind}, expected {spec.kind}"
    return None


@dataclass(frozen=True, slots=True)
class BatchRange:
    """The sizes that a dynamic batch may have, and the one to optimise for."""

    minimum: Count
    typical: Count
    maximum: Count

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where the sizes are not in ascending order."""
        if not self.minimum <= self.typical <= self.maximum:
            raise FormatError(f"{where}: needs minimum <= typical <= maximum, found {self}.")
