"""Batches taken apart into their rows, and put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


def by_row(inputs: Arrays, axes: Mapping[str, int]) -> list[dict[str, NDArray[Any]]]:
    """Returns the inputs of each row, (1, ...) each."""
    found = (inputs[name].shape[axis] for name, axis in axes.items() if name in inputs)
    return [
        {
            name: array[(slice(None),) * axes[name] + (slice(row, row + 1),)]
            if name in axes
            else array
            for name, array in inputs.items()
        }
        for row in range(next(found, 1))
    ]


def together(outputs: Sequence[Arrays], axes: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """Returns the outputs of all rows; what has no rows is the first row's."""
    return {
        name: np.concatenate([found[name] for found in outputs], axes[name])
        if name in axes
        else array
        for name, array in outputs[0].items()
    }
