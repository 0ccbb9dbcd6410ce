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
    """Some of a data set's images.

    Attributes:
        images: Float32 between 0 and 1, (N, 1, H, W).
        labels: Int64, (N,).
        difficulty: How hard each image is, int64, (N,); 0 where nothing is known of it.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficulty: NDArray[np.int64]

    def rows(self, rows: slice) -> Part:
        """Returns some of the images."""
        return Part(self.images[rows], self.labels[rows], self.difficulty[rows])


@dataclass(frozen=True, slots=True)
class FixedData:
    """A data set whose disjoint parts are fixed.

    Attributes:
        train: Networks and heads are trained on it.
        selection: What is chosen is chosen by it.
        report: Nothing is chosen by it.
        policy: What a policy is fitted on, chosen by, certified on, and reported on.
    """

    train: Part
    selection: Part
    report: Part
    policy: tuple[Part, Part, Part, Part]


def digit_images() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns all digits, (1797, 8, 8) between 0 and 1, in a fixed order, and their labels."""
    raw = require("sklearn.datasets", "select").load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(raw.target))
    return (raw.images / 16.0).astype(np.float32)[order], raw.target.astype(np.int64)[order]


def load_digits() -> FixedData:
    """Returns the digits: 60, 20 and 20 % of them; scikit-learn must be installed.

    A policy gets the two parts held out, each in two.
    """
    images, labels = digit_images()
    every = Part(images[:, None], labels, np.zeros_like(labels))
    first, second = len(labels) * 6 // 10, len(labels) * 8 // 10
    train, selection, report = (
        every.rows(rows) for rows in (slice(first), slice(first, second), slice(second, None))
    )
    chosen, reported = len(selection.labels) * 3 // 5, len(report.labels) * 3 // 5
    policy = (
        selection.rows(slice(chosen)),
        selection.rows(slice(chosen, None)),
        report.rows(slice(reported)),
        report.rows(slice(reported, None)),
    )
    return FixedData(train, selection, report, policy)
