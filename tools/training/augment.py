"""Augmentation of a batch: each image shifted by an eighth at most, and perhaps mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def augmented(
    images: NDArray[np.float32], flip: bool, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Returns shifted images, zeros coming in; half of them mirrored where ``flip`` is set.

    Args:
        images: (N, C, H, W).
        flip: Whether an image means the same mirrored.
        rng: Draws the shifts.
    """
    rows, _, height, width = images.shape
    most = max(height // 8, 1)
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)))
    top, left = rng.integers(0, 2 * most + 1, (2, rows))
    mirrored: NDArray[np.bool_] = np.logical_and(rng.random(rows) < 0.5, flip)
    out = np.empty_like(images)
    for row in range(rows):
        cut = padded[row, :, top[row] : top[row] + height, left[row] : left[row] + width]
        out[row] = cut[..., ::-1] if mirrored[row] else cut
    return out
