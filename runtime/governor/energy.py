"""How much energy the next call of a configuration will take, learnt from the meter.

A meter says what everything together took between two readings. That is compared with what was
expected: each call by its configuration, and idling by the clock. Each of these is moved
towards the ratio of the two, by its share in the expected; calls also move together, as a
hot chip leaks under every configuration. This is a multiplicative form of Kaczmarz' method
(1937) with a small step, so that noise averages out while the proportions change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .operating_point import OperatingPoint

GAIN = 0.3
TOGETHER = 0.5
FACTOR_LIMIT = 1e6
STEP_LIMIT = 4.0
IDLE_SHARE = 0.3
"""Power while idle over power while running, before any reading."""


@dataclass(frozen=True, slots=True)
class EnergyEstimate:
    """What was learnt from the meter so far.

    Attributes:
        call_mj: Energy of a call of each configuration, by name; empty if none is known.
        idle_w: Power while nothing runs; 0 without a meter.
        readings: How many intervals between readings were learnt from.
    """

    call_mj: Mapping[str, float]
    idle_w: float
    readings: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """What is expected to have been spent between two readings of the meter.

    Attributes:
        calls_mj: By configuration.
        idle_mj: While nothing ran.
    """

    calls_mj: Mapping[str, float]
    idle_mj: float

    @property
    def total_mj(self) -> float:
        """Everything together."""
        return sum(self.calls_mj.values()) + self.idle_mj


def first_energy(points: Sequence[OperatingPoint], metered: bool) -> EnergyEstimate:
    """Returns the estimate before any reading.

    Args:
        points: The configurations; where one has no ``energy_mj``, all are taken to draw the
            same power, of a scale that the first reading sets.
        metered: Whether there will be readings; without, unknown energies stay unknown.
    """
    if all(point.energy_mj > 0 for point in points):
        call_mj = {point.configuration: point.energy_mj for point in points}
        readings = 1
    elif metered:
        call_mj = {point.configuration: point.p50_ms for point in points}
        readings = 0
    else:
        return EnergyEstimate({}, 0.0)
    powers_w = [call_mj[point.configuration] / point.p50_ms for point in points]
    return EnergyEstimate(call_mj, IDLE_SHARE * min(powers_w) if metered else 0.0, readings)


def observe_energy(
    estimate: EnergyEstimate, spent: Spent, measured_mj: float
) -> EnergyEstimate:
    """Returns ``estimate`` with what the meter said of one interval.

    Args:
        estimate: What was learnt before.
        spent: What it expected for the interval.
        measured_mj: What the meter said of the same interval.
    """
    expected_mj = spent.total_mj
    if not estimate.call_mj or expected_mj <= 0 or measured_mj <= 0:
        return estimate
    ratio = measured_mj / expected_mj
    if estimate.readings == 0:  # nothing but proportions is known yet
        call_mj = {name: mj * _clamp(ratio) for name, mj in estimate.call_mj.items()}
        return EnergyEstimate(call_mj, estimate.idle_w * _clamp(ratio), 1)
    ratio = min(max(ratio, 1 / STEP_LIMIT), STEP_LIMIT)
    running = sum(spent.calls_mj.values()) / expected_mj
    call_mj = {}
    for name, mj in estimate.call_mj.items():
        own = spent.calls_mj.get(name, 0.0) / expected_mj
        call_mj[name] = mj * ratio ** (GAIN * (TOGETHER * running + (1 - TOGETHER) * own))
    idle_w = estimate.idle_w * ratio ** (GAIN * spent.idle_mj / expected_mj)
    return EnergyEstimate(call_mj, idle_w, estimate.readings + 1)


def _clamp(ratio: float) -> float:
    return min(max(ratio, 1 / FACTOR_LIMIT), FACTOR_LIMIT)
