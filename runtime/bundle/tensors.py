"""What the tensors are that go into a graph and come out of it, and the batch they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..errors import FormatError
from .constraints import Count, OneOf

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
