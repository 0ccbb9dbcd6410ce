"""Labelled data in memory: its disjoint parts, its rows in the sizes a network takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs by the network's input names, each (N, ...), and their targets, (N, ...)."""

    inputs: Mapping[str, NDArray[Any]]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class Parts:
    """Disjoint parts of the data.

    Attributes:
        reestimate: Norm statistics are re-estimated on it; its targets are not used.
        selection: Configurations are compared on it.
        report: What is printed and written as a configuration's accuracy comes from it.
        fitting: When configurations answer early is fitted on it; empty where they do not.
    """

    reestimate: Samples
    selection: Samples
    report: Samples
    fitting: Samples = field(default_factory=lambda: Samples({}, np.zeros(0, np.int64)))


@dataclass(frozen=True, slots=True)
class Chunks:
    """Rows cut into chunks.

    Attributes:
        inputs: Per input of the network its arrays, one per chunk.
        counts: Rows of each chunk that are data; any after them repeat the last one.
        rows: Rows of each chunk's arrays.
    """

    inputs: Mapping[str, list[NDArray[Any]]]
    counts: tuple[int, ...]
    rows: tuple[int, ...]

    def real(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Returns what was computed of the rows that are data.

        An array may have a multiple of its chunk's rows: a value per row and position.
        """
        return [
            array if count == rows else array[: array.shape[0] * count // rows]
            for array, count, rows in zip(arrays, self.counts, self.rows, strict=True)
        ]

    def groups(self, size: int) -> list[Chunks]:
        """Returns these chunks, ``size`` of them at a time."""
        return [
            Chunks(
                {name: arrays[start : start + size] for name, arrays in self.inputs.items()},
                self.counts[start : start + size],
                self.rows[start : start + size],
            )
            for start in range(0, len(self.counts), size)
        ]


def chunks_of(inputs: Mapping[str, NDArray[Any]], rows: int, padded: bool) -> Chunks:
    """Returns ``inputs`` in chunks of ``rows``; the last has fewer, or is ``padded``."""
    total = len(next(iter(inputs.values())))
    starts = range(0, total, rows)
    counts = tuple(min(rows, total - start) for start in starts)
    cut = {
        name: [_chunk(array, start, rows, padded) for start in starts]
        for name, array in inputs.items()
    }
    return Chunks(cut, counts, tuple(rows if padded else count for count in counts))


def _chunk(array: NDArray[Any], start: int, rows: int, padded: bool) -> NDArray[Any]:
    chunk = array[start : start + rows]
    if padded and len(chunk) < rows:
        chunk = np.concatenate([chunk, np.repeat(chunk[-1:], rows - len(chunk), axis=0)])
    return np.ascontiguousarray(chunk)
