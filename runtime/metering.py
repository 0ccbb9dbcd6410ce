"""What a meter says between two readings, without the readings that cannot be true.

A meter may stop, jump or start anew. None of that stops the engine: until the meter can be
believed again, energy is what the governor expects it to be.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from .governor import Spent

if TYPE_CHECKING:
    from .meters import Reading, Sampler

_LOG = logging.getLogger(__name__)

LEAST_RESOLUTIONS = 10.0
"""Energy is compared once it is this many times what the meter can tell apart."""
LOST_PERIODS = 20.0
LOST_S = 2.0
IMPLAUSIBLE = 8.0
"""A power this many times the usual and the expected one is an error of the meter ..."""
CONVINCING = 3
"""... unless it is read this many times in a row."""
_GAIN = 0.2


@dataclass(frozen=True, slots=True)
class Interval:
    """The time between two readings.

    Attributes:
        spent: What was expected to be taken in it.
        measured_mj: What was; None where the reading cannot be believed.
    """

    spent: Spent
    measured_mj: float | None


@final
class Metering:
    """Follows a meter; not for several threads at once.

    Args:
        sampler: Its readings.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._source = sampler
        self._least_mj = LEAST_RESOLUTIONS * sampler.meter.resolution_mj
        self._lost_s = max(LOST_PERIODS * sampler.meter.period_s, LOST_S)
        self._base: Reading | None = None
        self._moved_s: float | None = None
        self._usual_mw = 0.0
        self._implausible = 0
        self._calls_mj: dict[str, float] = {}
        self._idle_mj = 0.0
        self.total_mj = 0.0
        """Everything that was measured and believed."""
        self.lost = False
        """Whether the meter says nothing that can be believed."""

    def charge_call(self, configuration: str, expected_mj: float) -> None:
        """Takes note of a call and of the energy that it is expected to have taken."""
        self._calls_mj[configuration] = self._calls_mj.get(configuration, 0.0) + expected_mj

    def charge_idle(self, expected_mj: float) -> None:
        """Takes note of what is expected to have been taken while nothing ran."""
        self._idle_mj += expected_mj

    def ended_interval(self, now_s: float) -> Interval | None:
        """Returns the interval that a new reading ends; None if there is no new reading."""
        reading, base = self._source.latest, self._base
        if self._moved_s is None:
            self._moved_s = now_s
        if reading is base:
            self._look_for_loss(now_s)
            return None
        if reading is None or base is None:
            self._base = reading
            return self._ended(None)
        energy_mj = reading.energy_mj - base.energy_mj
        if energy_mj < 0:
            return self._left_out(reading, "went back, as if it were started anew")
        if energy_mj < self._least_mj:
            self._look_for_loss(now_s)
            return None
        self._moved_s = now_s
        if self.lost:
            self.lost = False
            return self._left_out(reading, "is back")
        elapsed_s = max((reading.time_ns - base.time_ns) / 1e9, 1e-9)
        if not self._believable(energy_mj, elapsed_s):
            return self._left_out(reading, f"jumped by {energy_mj / 1000:.4g} J")
        gain = _GAIN if self._usual_mw > 0 else 1.0
        self._usual_mw += gain * (energy_mj / elapsed_s - self._usual_mw)
        self._base = reading
        self.total_mj += energy_mj
        return self._ended(energy_mj)

    def _ended(self, measured_mj: float | None) -> Interval:
        spent = Spent(self._calls_mj, self._idle_mj)
        self._calls_mj, self._idle_mj = {}, 0.0
        return Interval(spent, measured_mj)

    def _believable(self, energy_mj: float, elapsed_s: float) -> bool:
        expected_mj = sum(self._calls_mj.values()) + self._idle_mj
        usual_mj = max(self._usual_mw * elapsed_s, expected_mj)
        if self._usual_mw == 0 or energy_mj <= IMPLAUSIBLE * usual_mj:
            self._implausible = 0
            return True
        self._implausible += 1
        return self._implausible >= CONVINCING

    def _look_for_loss(self, now_s: float) -> None:
        if self.lost or self._moved_s is None or now_s - self._moved_s <= self._lost_s:
            return
        self.lost = True
        _LOG.warning(
            "the meter has said nothing new for %.3g s; until it does, energy is estimated.",
            now_s - self._moved_s,
        )

    def _left_out(self, reading: Reading, what: str) -> Interval:
        self._base = reading
        _LOG.warning("the meter %s; this reading is left out.", what)
        return self._ended(None)
