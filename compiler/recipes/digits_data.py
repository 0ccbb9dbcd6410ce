"""scikit-learn's digits: 1,797 real grey images of 8x8 pixels, split once and for all.

The split does not depend on any seed: whoever trains on ``train`` and selects on ``selection``
never saw ``report``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.extras import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPLIT_SEED = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Images, float32 (N, 1, 8, 8) between 0 and 1, and their labels, int64 (N,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Digits:
    """The three parts: 60, 20 and 20 % of the images."""

    train: Part
    selection: Part
    report: Part


def load_digits() -> Digits:
    """Returns the images in their fixed split; scikit-learn must be installed."""
    raw = require("sklearn.datasets", "select").load_digits()
    images = (raw.images[:, None] / 16.0).astype(np.float32)
    labels = raw.target.astype(np.int64)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    first, second = len(order) * 6 // 10, len(order) * 8 // 10
    parts = np.split(order, [first, second])
    return Digits(*(Part(images[index], labels[index]) for index in parts))
