"""What a meter is: a counter of energy, and what one must know to read it well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """What a meter showed.

    Attributes:
        energy_mj: Millijoules since some fixed moment. It never falls, unless the device's own
            counter was reset.
        time_ns: When that was, in nanoseconds of the clock that the meter was given.
    """

    energy_mj: float
    time_ns: int


class Meter(Protocol):
    """A counter of energy. One reader at a time.

    Attributes:
        name: The spec that opens this meter, e.g. ``hwmon:VDD_IN``.
        covers: What its energy is spent on, in words, e.g. ``the module (VDD_IN)``.
        resolution_mj: The smallest step in millijoules that it can show. Its accuracy is
            another matter, and worse.
        period_s: How often the value changes, in seconds: reading more often tells nothing
            new, and a meter that integrates power itself misses more where it is read less
            often.
        estimated: Whether nothing is measured.
    """

    name: str
    covers: str
    resolution_mj: float
    period_s: float
    estimated: bool

    def read(self) -> Reading:
        """Returns what the meter shows now.

        Raises:
            MeterError: It cannot be read now; a later call may succeed.
        """

    def close(self) -> None:
        """Frees what the meter holds. It may be called twice; reading is over then."""
