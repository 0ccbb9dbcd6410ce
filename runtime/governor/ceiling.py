"""Hysteresis: up to which configuration the latency budget admits, so that it does not flap.

Down at once, up slowly: a configuration that no longer fits is left with the next call; one
that fits again is admitted only with a margin and after a dwell. The dwell doubles each time
that what was admitted had to be left again soon, and starts small again when it lasted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CLIMB_MARGIN = 0.015
"""Logarithm of how far below the budget a prediction must be to be admitted."""
SHORTEST_DWELL_S = 0.5
LONGEST_DWELL_S = 60.0
SOON_DWELLS = 4.0


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most accurate that the latency budget admits.

    Attributes:
        limit_ms: The budget that it belongs to; another one starts anew.
        rank: The rank up to which configurations are admitted.
        climb_from_s: When more may be admitted.
        climbed_s: When more was admitted last.
        dwell_s: How long it waits after the next step down.
    """

    limit_ms: float = math.nan
    rank: float = math.inf
    climb_from_s: float = 0.0
    climbed_s: float = -math.inf
    dwell_s: float = SHORTEST_DWELL_S


def ceiling_after(ceiling: Ceiling, limit_ms: float, rank: float, now_s: float) -> Ceiling:
    """Returns the ceiling after a decision that admitted up to ``rank``."""
    if limit_ms != ceiling.limit_ms:
        return Ceiling(limit_ms, rank, now_s)
    if rank == ceiling.rank:
        return ceiling
    if rank > ceiling.rank:
        wait_s = SHORTEST_DWELL_S
        return Ceiling(limit_ms, rank, now_s + wait_s, now_s, ceiling.dwell_s)
    soon = now_s - ceiling.climbed_s < SOON_DWELLS * ceiling.dwell_s
    dwell_s = min(2 * ceiling.dwell_s, LONGEST_DWELL_S) if soon else SHORTEST_DWELL_S
    return Ceiling(limit_ms, rank, now_s + dwell_s, ceiling.climbed_s, dwell_s)
