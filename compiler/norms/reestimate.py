"""Norm statistics from data, and what each mode makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.norms.statistics import NormStatistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def pooled_statistics(chunks: Sequence[NDArray[Any]]) -> NormStatistics:
    """Returns mean and biased variance per channel over all chunks together.

    Args:
        chunks: What the norm reads, (N, C) or (N, C, ...) each; summed in double precision.
    """
    axes = (0, *range(2, chunks[0].ndim))
    count = sum(chunk.size // chunk.shape[1] for chunk in chunks)
    mean = sum(chunk.sum(axes, dtype=np.float64) for chunk in chunks) / count
    shape = (1, -1) + (1,) * (chunks[0].ndim - 2)
    centre = mean.astype(chunks[0].dtype).reshape(shape)
    # The second sum takes back what rounding the centre has cost.
    squares, rest = 0.0, 0.0
    for chunk in chunks:
        difference = chunk - centre
        squares = squares + np.square(difference).sum(axes, dtype=np.float64)
        rest = rest + difference.sum(axes, dtype=np.float64)
    variance = squares / count - np.square(rest / count)
    return NormStatistics(mean.astype(np.float32), np.maximum(variance, 0).astype(np.float32))


def scaled_statistics(
    own: NormStatistics, base: NormStatistics, gamma: NDArray[Any], epsilon: float
) -> NormStatistics:
    """Returns ``own`` with one scalar in place of its variance.

    The norm would multiply channel ``c`` by ``a'[c] = gamma[c] / sqrt(own variance)``; it
    multiplies by ``s a[c]`` instead, ``a`` from the base variance. Of all ``s`` the one is
    taken that changes the norm's centred output least, in the mean of its squares:
    the minimum of ``sum((a' - s a)^2 (own variance))`` over the channels.

    Returns:
        Statistics whose ``scale`` is exactly 1 where both variances are the same.
    """
    deviation = np.sqrt(own.variance.astype(np.float64) + epsilon)
    base_deviation = np.sqrt(base.variance.astype(np.float64) + epsilon)
    weight = np.square(gamma.astype(np.float64))
    ratio = deviation / base_deviation
    below = float((weight * np.square(ratio)).sum())
    scale = float((weight * ratio).sum()) / below if below > 0 else 1.0
    return NormStatistics(own.mean, base.variance, scale)


def effective_variance(
    statistics: NormStatistics, base: NormStatistics, epsilon: float
) -> NDArray[np.float32]:
    """Returns the variance with which a plain batch norm multiplies as ``statistics`` say."""
    if statistics.scale is None:
        return statistics.variance
    variance = base.variance.astype(np.float64) + epsilon
    return (variance / statistics.scale**2 - epsilon).astype(np.float32)
