"""Norm statistics: found in data, configuration by configuration, as each mode wants them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class NormMode(str, Enum):
    """Which statistics the norms of a configuration use.

    ``SHARED``: those of the checkpoint, for all configurations. ``SCALAR``: a re-estimated
    bias and one scalar per layer; the kernels stay those of the full network. ``FULL``:
    re-estimated per channel; engines fold them into kernels of their own.
    """

    SHARED = "shared"
    SCALAR = "scalar"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class NormStatistics:
    """The statistics of one batch norm in one configuration.

    Attributes:
        mean: Per channel of the full network, float32 (C,). Of those that a configuration
            does not have, any number.
        variance: Per channel, biased, float32 (C,).
        scale: Where it is given, ``variance`` is that of the base statistics, and the norm
            multiplies by ``scale`` besides.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    scale: float | None = None

    def plain_variance(self, epsilon: float) -> NDArray[np.floating]:
        """Returns the variance with which a plain batch norm multiplies the same.

        It may be below zero.
        """
        if self.scale is None:
            return self.variance
        return (self.variance.astype(np.float64) + epsilon) / self.scale**2 - epsilon

    def only(self, kept: NDArray[np.bool_]) -> NormStatistics:
        """Returns those of the channels that stay."""
        return replace(self, mean=self.mean[kept], variance=self.variance[kept])

    def among(self, kept: NDArray[np.bool_]) -> NormStatistics:
        """Returns them for all channels, where they are of those that stay."""
        mean, variance = np.zeros(len(kept), np.float32), np.ones(len(kept), np.float32)
        mean[kept], variance[kept] = self.mean, self.variance
        return replace(self, mean=mean, variance=variance)


NetworkNorms = Mapping[str, NormStatistics]
"""The statistics of one configuration, by the norm's name; in a graph, by its output's."""


@dataclass(frozen=True, slots=True)
class FamilyNorms:
    """The statistics of all configurations of a front.

    Attributes:
        mode: How they were estimated.
        base: Those of the full network, which kernels are folded with in ``scalar`` mode.
        configurations: Those of each configuration, by its name; a norm that the
            configuration skips may be missing.
    """

    mode: NormMode
    base: NetworkNorms = field(default_factory=dict)
    configurations: Mapping[str, NetworkNorms] = field(default_factory=dict)

    def content(self, configuration: str) -> bytes:
        """Returns the same for configurations with the same statistics; empty without any."""
        found = self.configurations.get(configuration, {})
        return b"".join(
            name.encode()
            + one.mean.tobytes()
            + one.variance.tobytes()
            + repr(one.scale).encode()
            for name, one in sorted(found.items())
        )


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
