"""Norm statistics: what re-estimation found, configuration by configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
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
        mean: Per channel, float32 (C,).
        variance: Per channel, biased, float32 (C,).
        scale: Where it is given, the norm multiplies by that of the base statistics, times
            ``scale``, and ``variance`` is not used.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    scale: float | None = None


NetworkNorms = Mapping[str, NormStatistics]
"""The statistics of one configuration, by the norm's name."""


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
