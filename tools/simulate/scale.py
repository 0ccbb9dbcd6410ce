"""Fast networks, slowed down so that a scenario does not hold millions of calls.

Latencies and energies grow alike, and what is granted with them; powers and all times stay. So
there are fewer calls between two changes than there would be.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skipc.tools.simulate.device import most_accurate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime import Budget, OperatingPoint

LEAST_MS = 10.0


def slow_enough(points: Sequence[OperatingPoint]) -> float:
    """Returns by what to multiply latencies so that the most accurate takes ``LEAST_MS``.

    1 where it takes that long already.
    """
    return max(LEAST_MS / most_accurate(points).p50_ms, 1.0)


def scaled(points: Sequence[OperatingPoint], factor: float) -> tuple[OperatingPoint, ...]:
    """Returns the points with latencies and energies multiplied by ``factor``."""
    return tuple(
        replace(
            point,
            p50_ms=point.p50_ms * factor,
            p95_ms=point.p95_ms * factor,
            p99_ms=None if point.p99_ms is None else point.p99_ms * factor,
            energy_mj=point.energy_mj * factor,
        )
        for point in points
    )


def scaled_budget(budget: Budget, factor: float) -> Budget:
    """Returns the budget that grants the scaled family what ``budget`` grants the real one."""
    return replace(
        budget,
        latency_ms=None if budget.latency_ms is None else budget.latency_ms * factor,
        energy_mj=None if budget.energy_mj is None else budget.energy_mj * factor,
    )
