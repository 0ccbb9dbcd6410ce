"""Colours: told apart by the colour-blind, on paper and in grey."""

from __future__ import annotations

import numpy as np

# Viridis (matplotlib, CC0) from 0 to 0.8; what comes after is too light on white paper.
_VIRIDIS = (
    *("#440154", "#482475", "#414487", "#355f8d", "#2a788e"),
    *("#21918c", "#22a884", "#44bf70", "#7ad151"),
)
LIMIT, PREDICTION, FAILED = "#000000", "#5a5a5a", "#d55e00"
POWER, OTHER_POWER = "#0072b2", "#cc79a7"
INFEASIBLE = "#e8e8e8"


def colours(count: int) -> list[tuple[float, float, float]]:
    """Returns a colour for each of so many ranks, the darkest for the most accurate.

    Returns:
        Red, green and blue between 0 and 1.
    """
    known = np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in _VIRIDIS])
    places = np.linspace(0, len(known) - 1, count) if count != 1 else np.array([2.0])
    channels = [np.interp(places, np.arange(len(known)), known[:, i]) / 255 for i in range(3)]
    return [(float(r), float(g), float(b)) for r, g, b in zip(*channels, strict=True)]
