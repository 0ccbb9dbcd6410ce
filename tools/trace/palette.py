"""Colours: told apart by the colour-blind, on paper and in grey."""

from __future__ import annotations

from skipc.tools.web.palette import ramp

LIMIT, PREDICTION, FAILED = "#000000", "#5a5a5a", "#d55e00"
POWER, OTHER_POWER = "#0072b2", "#cc79a7"
INFEASIBLE = "#e8e8e8"


def colours(count: int) -> list[tuple[float, float, float]]:
    """Returns a colour for each of so many ranks, the darkest for the most accurate.

    Returns:
        Red, green and blue between 0 and 1.
    """
    return [
        (int(text[1:3], 16) / 255, int(text[3:5], 16) / 255, int(text[5:7], 16) / 255)
        for text in ramp(count)
    ]
