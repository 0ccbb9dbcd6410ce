"""How much energy the next call of a configuration will take, learnt from the meter.

A meter says what everything together took between two readings. That is compared with what was
expected: each call by its configuration, and idling by the clock. What each of these really
takes is then estimated by a Kalman filter (Kalman, 1960) over factors on the expected values:
the calls' factors are believed to be off together much more than each alone, so that a reading
moves all of them at first, and their differences only as the proportions of calls and pauses
in the readings change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from .operating_point import OperatingPoint

TOGETHER = 0.5
"""How far off the calls' energies may be together at first (standard deviation of factors)."""
ALONE = 0.1
"""How far off each may be alone."""
IDLE = 1.0
"""How far off idling may be where nobody measured it ..."""
IDLE_MEASURED = 0.05
"""... and where somebody did."""
UNKNOWN = 100.0
"""How far off all are together where nothing but their proportions is known."""
TOGETHER_DRIFT = 0.003
"""How much the calls' energies change together from one reading to the next."""
ALONE_DRIFT = 0.0005
READING_NOISE = 0.03
"""Standard deviation of a reading, as a share of it."""
CALL_NOISE = 0.1
"""Standard deviation of a call's energy, as a share of it."""
LEAST_FACTOR = 1e-3
"""What is left of a factor after a reading, at least ..."""
LEAST_OF_ALL = 1e-9
"""... and after any number of them: what is divided by must not vanish."""
IDLE_SHARE = 0.3
"""Power while idle over power while running, before any reading."""


@dataclass(frozen=True, slots=True, eq=False)
class EnergyEstimate:
    """What was learnt from the meter so far.

    Attributes:
        call_mj: Energy of a call of each configuration, by name; empty if none is known.
        idle_w: Power while nothing runs; 0 without a meter.
        expected: What was expected before any reading: of a call of each configuration in
            mJ, then of idling in W. Shape (configurations + 1,).
        factors: What these are multiplied by; the same shape.
        covariance: Of the factors.
        scaled: Whether more is known than proportions: from the table, or from a reading.
    """

    call_mj: Mapping[str, float]
    idle_w: float
    expected: NDArray[np.float64]
    factors: NDArray[np.float64]
    covariance: NDArray[np.float64]
    scaled: bool = True


@dataclass(frozen=True, slots=True)
class Spent:
    """What is expected to have been spent between two readings of the meter.

    In calls, by configuration, and while nothing ran.
    """

    calls_mj: Mapping[str, float]
    idle_mj: float

    @property
    def total_mj(self) -> float:
        """Everything together."""
        return sum(self.calls_mj.values()) + self.idle_mj


def first_energy(
    points: Sequence[OperatingPoint], metered: bool, idle_w: float | None = None
) -> EnergyEstimate:
    """Returns the estimate before any reading.

    Args:
        points: The configurations; where one has no ``energy_mj``, all are taken to draw the
            same power, of a scale that the first reading sets.
        metered: Whether there will be readings; without, unknown energies stay unknown.
        idle_w: What the device draws while nothing runs; None if nobody measured it.
    """
    known = all(point.energy_mj > 0 for point in points)
    if not known and not metered:
        nothing = np.zeros(0)
        return EnergyEstimate({}, 0.0, nothing, nothing, nothing)
    calls = np.array([p.energy_mj if known else p.p50_ms for p in points])
    powers_w = calls / np.array([point.p50_ms for point in points])
    idle_off = IDLE if idle_w is None else IDLE_MEASURED
    if idle_w is None:
        idle_w = IDLE_SHARE * float(powers_w.min()) if metered else 0.0
    count = len(points)
    covariance = np.diag(np.append(np.full(count, ALONE**2), idle_off**2))
    together = TOGETHER if known else UNKNOWN
    covariance[:count, :count] += together**2
    if not known and idle_off == IDLE:  # its guess is as far off as theirs
        covariance[count, :] += together**2
        covariance[:count, count] += together**2
    call_mj = {p.configuration: float(mj) for p, mj in zip(points, calls, strict=True)}
    expected, factors = np.append(calls, idle_w), np.ones(count + 1)
    return EnergyEstimate(call_mj, idle_w, expected, factors, covariance, known)


def with_configuration(
    estimate: EnergyEstimate, points: Sequence[OperatingPoint], point: OperatingPoint
) -> EnergyEstimate:
    """Returns the estimate with one more configuration, which draws as much as the others.

    Its factor is taken to be the mean of theirs, and as far off alone as theirs at first.
    """
    if not estimate.call_mj:
        return estimate
    powers_w = [estimate.call_mj[other.configuration] / other.p50_ms for other in points]
    energy_mj = float(np.median(powers_w)) * point.p50_ms
    count = len(estimate.call_mj)
    mean = np.append(np.full(count, 1 / count), 0.0)
    factor = float(mean @ estimate.factors)
    row = mean @ estimate.covariance
    own = float(row @ mean) + (ALONE * factor) ** 2
    wider = np.insert(estimate.covariance, count, row, 0)
    return EnergyEstimate(
        {**estimate.call_mj, point.configuration: energy_mj},
        estimate.idle_w,
        np.insert(estimate.expected, count, energy_mj / factor),
        np.insert(estimate.factors, count, factor),
        np.insert(wider, count, np.insert(row, count, own), 1),
        estimate.scaled,
    )


def observe_energy(
    estimate: EnergyEstimate, spent: Spent, measured_mj: float
) -> EnergyEstimate:
    """Returns ``estimate`` with what the meter said of one interval, and what it expected."""
    expected_mj = spent.total_mj
    if not estimate.call_mj or expected_mj <= 0 or measured_mj < 0:
        return estimate
    names = tuple(estimate.call_mj)
    charged = np.array([*(spent.calls_mj.get(name, 0.0) for name in names), spent.idle_mj])
    shares = charged / estimate.factors  # what was expected at factors of 1
    covariance = estimate.covariance
    seen = covariance @ shares
    scale = measured_mj / expected_mj  # the noise is that of the truth, not of the guess
    largest_mj = scale * max(estimate.call_mj[name] for name in spent.calls_mj or names)
    calls_mj = scale * sum(spent.calls_mj.values())
    noise = (READING_NOISE * measured_mj) ** 2 + CALL_NOISE**2 * largest_mj * calls_mj
    gain = seen / (shares @ seen + noise)
    least = np.maximum(LEAST_FACTOR * estimate.factors, LEAST_OF_ALL)
    factors = np.maximum(estimate.factors + gain * (measured_mj - expected_mj), least)
    covariance = covariance - np.outer(gain, seen)
    count, size = len(names), float(factors[:-1].mean())
    covariance[:count, :count] += (TOGETHER_DRIFT * size) ** 2
    covariance += np.diag((ALONE_DRIFT * factors) ** 2)
    energies = estimate.expected * factors
    call_mj = dict(zip(names, energies[:-1].tolist(), strict=True))
    return EnergyEstimate(call_mj, float(energies[-1]), estimate.expected, factors, covariance)
