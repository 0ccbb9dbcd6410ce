"""The meter ``model``: a constant power, for where nothing can be measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import MeterError
from .meter import Reading

if TYPE_CHECKING:
    from pathlib import Path

    from ..clock import Clock
    from .meter import Meter


class _ModelMeter:
    """Watts times time. Nothing is measured."""

    estimated = True

    def __init__(self, watts: float, clock: Clock) -> None:
        self.name = f"model:{watts:g}"
        self.covers = f"nothing measured: {watts:g} W taken for granted"
        self.resolution_mj = watts * 1e-6  # a nanosecond of it
        self.period_s = 0.001
        self._watts = watts
        self._clock = clock
        self._start_ns = clock.now_ns()

    def read(self) -> Reading:
        now_ns = self._clock.now_ns()
        return Reading(self._watts * (now_ns - self._start_ns) * 1e-6, now_ns)

    def close(self) -> None:
        """Does nothing: the meter holds nothing."""


def open_kind(argument: str, clock: Clock, system: Path) -> Meter:
    """Returns a meter of ``argument`` watts, a power above zero."""
    try:
        watts = float(argument)
    except ValueError:
        watts = math.nan
    if not 0 < watts < math.inf:
        raise MeterError(
            f"the meter 'model' takes the power that the device is thought to draw, and"
            f" {argument!r} is no number of watts above zero. Write it as 'model:15'."
        )
    return _ModelMeter(watts, clock)


def specs(system: Path) -> tuple[str, ...]:
    """Returns nothing: only the user can know the watts."""
    return ()
