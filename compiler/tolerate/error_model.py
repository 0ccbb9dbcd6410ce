"""Which bits of a memory fail how often: all alike, by position, in weak rows or columns.

A rate is the mean share of the bits that fail; a model spreads it over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from skipc.compiler.errors import TolerateError
from skipc.profiles import read_toml
from skipc.runtime.bundle.constraints import (
    Above,
    AtLeast,
    AtMost,
    Below,
    KeysOf,
    OneOf,
)
from skipc.runtime.bundle.records import read

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Key = NDArray[np.uint64]

MOST_RATE = 0.5
"""Half of the bits wrong tell nothing any more."""
EXPOSED_TYPES = ("float32", "float16", "int8", "uint8", "int32")
"""What weights are stored as. Indices and shapes are no weights and never damaged."""
_MOST_ROW_BYTES, _MOST_WEIGHT = 1 << 30, 1e9
_SPLIT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True, slots=True)
class WeakLines:
    """Rows or columns of the memory array in which errors are more frequent.

    Attributes:
        along: ``rows`` (word lines) or ``columns`` (bit lines).
        row_bytes: What a row holds; the file ``weights.bin`` fills row after row.
        share: The share of the rows or columns that are weak.
        of_errors: The share of all errors that lies in them.
    """

    along: Annotated[str, OneOf(("rows", "columns"))]
    row_bytes: Annotated[int, AtLeast(1), AtMost(_MOST_ROW_BYTES)]
    share: Annotated[float, Above(0), Below(1)]
    of_errors: Annotated[float, Above(0), AtMost(1)]

    def factors(self, addresses: Numbers, key: Key) -> Floats:
        """Returns by how much bits at these addresses fail more often than on average."""
        row_bits = 8 * self.row_bytes
        lines = addresses // row_bits if self.along == "rows" else addresses % row_bits
        inside, outside = self.of_errors / self.share, (1 - self.of_errors) / (1 - self.share)
        return np.where(_uniform(lines, key[0]) < self.share, inside, outside)


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """The errors of a memory, but for how many there are.

    Attributes:
        effect: ``flip``: a bit that fails is the other one; ``stuck``: it is 0 or 1, whatever
            was written, so that half of them hold what they should.
        positions: By type, a weight for each bit of a value, the least significant first.
        weak: Where errors are more frequent.
        chip: Number of one memory whose cells fail, the same ones whenever it is used; None
            where every try is another memory.
    """

    FORMAT: ClassVar[str] = "skipc.bit-errors/1"

    effect: Annotated[str, OneOf(("flip", "stuck"))] = "flip"
    positions: Annotated[
        Mapping[str, tuple[Annotated[float, AtLeast(0), AtMost(_MOST_WEIGHT)], ...]],
        KeysOf(EXPOSED_TYPES),
    ] = field(default_factory=dict)
    weak: WeakLines | None = None
    chip: Annotated[int, AtLeast(0)] | None = None

    def check(self, where: str) -> None:
        """Raises ``TolerateError`` where the weights of a type do not fit its bits."""
        for name, weights in self.positions.items():
            bits = 8 * np.dtype(name).itemsize
            if len(weights) != bits or not sum(weights):
                raise TolerateError(
                    f"{where}: positions: {name!r} has {len(weights)} weights that sum up to"
                    f" {sum(weights):g}, expected {bits}, one for each bit, not all of them 0."
                )

    @property
    def is_uniform(self) -> bool:
        """Whether every bit fails as often."""
        return self.weak is None and not self.positions

    @property
    def most_factor(self) -> float:
        """How much more often than on average a bit may fail at most."""
        most = max((max(w) * len(w) / sum(w) for w in self.positions.values()), default=1.0)
        if self.weak is None:
            return float(max(most, 1.0))
        lines = self.weak.of_errors / self.weak.share, 1 / (1 - self.weak.share)
        return float(max(most, 1.0) * max(lines))

    def factors(self, dtype: str, bits: Numbers, addresses: Numbers, key: Key) -> Floats:
        """Returns by how much bits of a tensor fail more often than on average, (bits,).

        Args:
            dtype: Of its values.
            bits: Numbers of the bits within the tensor.
            addresses: ... and within the memory.
            key: Of the pattern.
        """
        found = np.ones(len(bits))
        if dtype in self.positions:
            weights = np.array(self.positions[dtype])
            found = (weights / weights.mean())[bits % len(weights)]
        if self.weak is not None:
            found = found * self.weak.factors(addresses, key)
        return found


def read_errors(path: Path) -> ErrorModel:
    """Returns the error model in a TOML file.

    Raises:
        TolerateError: It is not one.
    """
    return read(ErrorModel, read_toml(path, TolerateError), str(path), TolerateError)


def _uniform(numbers: Numbers, seed: np.uint64) -> Floats:
    """Returns a number between 0 and 1 for each number: SplitMix64's (Steele et al., 2014)."""
    step, mix = _SPLIT
    mixed = (numbers.astype(np.uint64) + seed) * step
    for shift, factor in ((30, mix), (27, np.uint64(0x94D049BB133111EB))):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
    found: Floats = (mixed ^ (mixed >> np.uint64(31))) / 2.0**64
    return found
