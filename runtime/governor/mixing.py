"""Meeting an average by mixing: which two configurations to alternate between.

Let a call of configuration i exceed what is granted per call by x_i (negative: it stays
below), with accuracy a_i. The shares w_i that maximise the mean accuracy, sum w_i a_i, while
sum w_i x_i <= 0, are a linear programme with one constraint besides sum w_i = 1; so two
configurations suffice: the neighbours, on the concave hull of the front, of what is granted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


_SAME = 1e-12
"""Mean ranks this close are equal; neighbours are then preferred, as they spread better."""


class Mix(NamedTuple):
    """Two configurations, by index, whose mix meets the average.

    Attributes:
        low: The one that stays within what is granted.
        high: The one that exceeds it, and is more accurate; ``low`` again where ``low``
            alone is the best.
        share: The share of the calls that may run ``high``.
    """

    low: int
    high: int
    share: float


def best_mix(excesses: Sequence[float], ranks: Sequence[float]) -> Mix | None:
    """Returns the mix of highest mean rank whose mean excess is at most 0.

    Args:
        excesses: Of each configuration, what a call takes beyond what is granted.
        ranks: Of each configuration; higher is more accurate.

    Returns:
        None where every excess is above 0.
    """
    within = [index for index, excess in enumerate(excesses) if excess <= 0]
    if not within:
        return None
    alone = max(within, key=lambda index: (ranks[index], -excesses[index]))
    low = high = alone
    best_rank, best_gap, best_share = ranks[alone], 0.0, 0.0
    for above, excess in enumerate(excesses):
        rank = ranks[above]
        if excess <= 0 or rank <= ranks[alone]:
            continue
        for index in within:
            gap = excess - excesses[index]
            share = -excesses[index] / gap
            better = ranks[index] + share * (rank - ranks[index]) - best_rank
            if better > _SAME or (better > -_SAME and best_gap > gap):
                low, high, best_share, best_gap = index, above, share, gap
                best_rank += better
    return Mix(low, high, best_share)
