"""``clutter``: a digit somewhere in a picture, among pieces of other digits, in noise.

The more pieces there are, the harder it is to tell the digit: some pictures are answered right
by the first layers of a network, others need all of it. Made from scikit-learn's digits. The
parts do not depend on any seed, and no two of them show the same digit.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.recipes.digits_data import FixedData, Part, digit_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.int64]

SIZE = 32
"""Height and width of a picture."""
MOST_PIECES = 8
"""A picture's ``difficulty`` is how many pieces it has: from none to so many."""
_PIECE = 8
_NOISE = 0.1
# Pictures, and the share of the digits that they are made from.
_PARTS = {
    "train": (10_000, 0.45),
    "selection": (2_000, 0.10),
    "fitting": (5_000, 0.10),
    "calibration": (5_000, 0.15),
    "report": (5_000, 0.20),
}


@cache
def load_clutter() -> FixedData:
    """Returns the pictures, (N, 1, 32, 32) between 0 and 1; scikit-learn must be installed.

    There are 10,000 to train on, 2,000 for selection and 5,000 for the report. Policies are
    fitted on 5,000 and certified on 5,000 that nothing else gets.
    """
    images, labels = digit_images()
    doubled = images.repeat(2, axis=1).repeat(2, axis=2)
    ends = np.cumsum([share for _, share in _PARTS.values()]) * len(labels)
    digits = np.split(np.arange(len(labels)), np.round(ends[:-1]).astype(int))
    parts = {
        name: _part(doubled[own], labels[own], count, np.random.default_rng((seed, count)))
        for seed, ((name, (count, _)), own) in enumerate(
            zip(_PARTS.items(), digits, strict=True)
        )
    }
    policy = (parts["fitting"], parts["selection"], parts["calibration"], parts["report"])
    return FixedData(parts["train"], parts["selection"], parts["report"], policy)


def _part(digits: Floats, labels: Numbers, count: int, rng: np.random.Generator) -> Part:
    """Returns ``count`` pictures of these digits, (digits, 16, 16)."""
    pictures = np.zeros((count, SIZE, SIZE), np.float32)
    shown = rng.integers(len(digits), size=count)
    pieces = rng.integers(MOST_PIECES + 1, size=count)
    for number in range(MOST_PIECES):
        rows = np.flatnonzero(pieces > number)
        # Any digit but the one shown.
        others = (shown[rows] + rng.integers(1, len(digits), size=len(rows))) % len(digits)
        _paste(pictures, rows, _cut(digits[others], _PIECE, rng), rng)
    _paste(pictures, np.arange(count), digits[shown], rng)
    pictures += _NOISE * rng.standard_normal(pictures.shape, np.float32)
    pictures.clip(0, 1, out=pictures)
    return Part(pictures[:, None], labels[shown], pieces)


def _paste(pictures: Floats, rows: Numbers, stamps: Floats, rng: np.random.Generator) -> None:
    """Puts a stamp, (rows, H, W), somewhere into each of these pictures; lighter is seen."""
    place = _windows(rows, SIZE, stamps.shape[1], rng)
    pictures[place] = np.maximum(pictures[place], stamps)


def _cut(images: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Returns a square from somewhere in each image, (N, size, size)."""
    cut: Floats = images[_windows(np.arange(len(images)), images.shape[1], size, rng)]
    return cut


def _windows(
    rows: Numbers, whole: int, size: int, rng: np.random.Generator
) -> tuple[Numbers, Numbers, Numbers]:
    """Returns the index of a square somewhere in each of some square images."""
    top, left = rng.integers(whole - size + 1, size=(2, len(rows), 1, 1))
    span = np.arange(size)
    return rows[:, None, None], top + span[:, None], left + span
