"""Requests that wait, and how those of like sizes become one call."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.runtime.bundle.sizes import names_in
from skipc.runtime.bundle.tensors import BATCH, Dimension, batch_in, row_axes, sizes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.runtime.bundle.tensors import TensorSpec

    Arrays = dict[str, NDArray[Any]]

Sizes = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a request is answered with.

    Attributes:
        outputs: By the outputs' names, with as many rows as the request had.
        configuration: What ran.
        rows: Rows of the call that it was part of.
        latency_ms: From its arrival to its answer.
        in_time: Whether that was within what it was granted.
    """

    outputs: Mapping[str, NDArray[Any]]
    configuration: str
    rows: int
    latency_ms: float
    in_time: bool


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A request that waits.

    Attributes:
        arrays: Its inputs, checked.
        rows: How many rows it has; 1 where requests cannot be joined.
        sizes: Its free dimensions but the rows; only requests of equal ones can be joined.
        arrived_ms: When it came, on the batcher's clock.
        deadline_ms: When its answer is due; infinite without a limit.
        future: Gets ``Answered``, or an exception.
    """

    arrays: Arrays
    rows: int
    sizes: Sizes
    arrived_ms: float
    deadline_ms: float
    future: Future[Answered] = field(default_factory=Future)


class Joining:
    """How requests to a family lie side by side in one call.

    ``most_rows`` is 1 where they cannot: the batch is not free, or something does not have
    the batch's rows.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        dimensions: Sequence[Dimension],
    ) -> None:
        self._specs = inputs
        batch, tensors = batch_in(dimensions), (*inputs, *outputs)
        self._axes = row_axes(tensors)
        joins = batch is not None and all(_has_rows(spec) for spec in tensors)
        self.most_rows = batch.maximum if joins and batch is not None else 1
        self._joins = joins

    def request(self, arrays: Arrays, arrived_ms: float, limit_ms: float | None) -> Request:
        """Returns what waits for its turn; ``arrays`` are such as the engine takes."""
        sizes = sizes_of(arrays, self._specs)
        rows = sizes.pop(BATCH) if self._joins else 1
        deadline_ms = np.inf if limit_ms is None else arrived_ms + limit_ms
        return Request(arrays, rows, tuple(sizes.items()), arrived_ms, deadline_ms)

    def sizes(self, sizes: Sizes, rows: int) -> dict[str, int]:
        """Returns the free dimensions of a call of so many rows."""
        return {**dict(sizes), BATCH: rows} if self._joins else dict(sizes)

    def joined(self, requests: Sequence[Request]) -> Arrays:
        """Returns the inputs of several requests as those of one call."""
        if len(requests) == 1:
            return requests[0].arrays
        return {
            name: np.concatenate([each.arrays[name] for each in requests], self._axes[name])
            for name in requests[0].arrays
        }

    def parted(self, outputs: Arrays, requests: Sequence[Request]) -> list[Arrays]:
        """Returns each request's rows of the outputs of one call."""
        if len(requests) == 1:
            return [outputs]
        ends = list(accumulate(each.rows for each in requests))[:-1]
        parts = {
            name: np.split(array, ends, self._axes[name]) for name, array in outputs.items()
        }
        return [{n: part[i] for n, part in parts.items()} for i in range(len(requests))]


def _has_rows(spec: TensorSpec) -> bool:
    """Tells whether a tensor has each row of the batch once."""
    named = [size for size in spec.shape if isinstance(size, str)]
    follows = [size for size in named if size != BATCH and BATCH in (names_in(size) or ())]
    return named.count(BATCH) == 1 and not follows
