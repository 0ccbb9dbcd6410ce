"""What a meter says between two readings, without the readings that cannot be true.

A meter may stop, jump or start anew. None of that stops the engine: until the meter can be
believed again, energy is what the governor expects it to be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from .governor import Spent

if TYPE_CHECKING:
    from .meters import Reading, Sampler

LEAST_RESOLUTIONS = 10.0
"""Energy is compared once it is this many times what the meter can tell apart."""
LOST_PERIODS = 20.0
LOST_S = 2.0
IMPLAUSIBLE = 8.0
"""A power this many times the usual and the expected one is an error of the meter ..."""
CONVINCING = 3
"""... unless it is read this many times in a row."""
MOST_W = 20_000.0
"""What no machine takes: all that is known before there is a usual power."""
REPEAT_S = 60.0
"""How long the same trouble is not said again: a meter may jump at every reading."""
_GAIN = 0.2
_MW_PER_W = 1000.0


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
        self._seen: Reading | None = None
        self._moved_s: float | None = None
        self._usual_mw = 0.0
        self._implausible = 0
        self._calls_mj: dict[str, float] = {}
        self._idle_mj = 0.0
        self._notes: list[str] = []
        self._noted_s: dict[str, float] = {}
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

    def take_notes(self) -> list[str]:
        """Returns what is to be logged, once."""
        notes, self._notes = self._notes, []
        return notes

    def ended_interval(self, now_s: float) -> Interval | None:
        """Returns the interval that a new reading ends; None if there is no new reading."""
        reading, base = self._source.latest, self._base
        if self._moved_s is None:
            self._moved_s = now_s
        if reading is self._seen:
            self._look_for_loss(now_s)
            return None
        seen, self._seen = self._seen, reading
        if reading is None or base is None:
            self._base = reading if reading is not None and _is_sound(reading) else None
            return self._ended(None)
        if not _is_sound(reading):
            self._note("unsound", f"the meter shows {reading.energy_mj!r} mJ.", now_s)
            self._look_for_loss(now_s)
            return None
        energy_mj = reading.energy_mj - base.energy_mj
        if energy_mj < 0:
            return self._left_out(reading, "went back, as if it were started anew", now_s)
        if seen is None or reading.energy_mj != seen.energy_mj:
            self._moved_s = now_s
        if energy_mj == 0 or energy_mj < self._least_mj:
            self._look_for_loss(now_s)
            return None
        if self.lost:
            self.lost = False
            return self._left_out(reading, "is back", now_s)
        elapsed_s = (reading.time_ns - base.time_ns) / 1e9
        if elapsed_s <= 0:
            return self._left_out(reading, "shows a time that is not later", now_s)
        power_mw = energy_mj / elapsed_s
        if not self._believable(energy_mj, elapsed_s, power_mw):
            return self._left_out(reading, f"jumped by {energy_mj / 1000:.4g} J", now_s)
        gain = _GAIN if self._usual_mw > 0 else 1.0
        self._usual_mw += gain * (power_mw - self._usual_mw)
        self._base = reading
        self.total_mj += energy_mj
        return self._ended(energy_mj)

    @property
    def _expected_mj(self) -> float:
        return sum(self._calls_mj.values()) + self._idle_mj

    def _ended(self, measured_mj: float | None) -> Interval:
        spent = Spent(self._calls_mj, self._idle_mj)
        self._calls_mj, self._idle_mj = {}, 0.0
        return Interval(spent, measured_mj)

    def _believable(self, energy_mj: float, elapsed_s: float, power_mw: float) -> bool:
        if power_mw > MOST_W * _MW_PER_W:
            return False
        usual_mj = max(self._usual_mw * elapsed_s, self._expected_mj)
        if self._usual_mw == 0 or energy_mj <= IMPLAUSIBLE * usual_mj:
            self._implausible = 0
            return True
        self._implausible += 1
        return self._implausible >= CONVINCING

    def _look_for_loss(self, now_s: float) -> None:
        if self.lost or self._moved_s is None or now_s - self._moved_s <= self._lost_s:
            return
        source = self._source
        is_read = source.latest is not None and not source.failure
        if is_read and self._expected_mj < self._least_mj:
            return  # so little was taken that a meter of this resolution may stand still
        self.lost = True
        silent_s = now_s - self._moved_s
        self._note(
            "lost",
            f"the meter has said nothing new for {silent_s:.3g} s; until it does, energy is"
            " estimated.",
            now_s,
        )

    def _left_out(self, reading: Reading, what: str, now_s: float) -> Interval:
        """Returns the interval without a measurement; ``reading`` begins the next one."""
        self._base = reading
        self._note(what.split()[0], f"the meter {what}; this reading is left out.", now_s)
        return self._ended(None)

    def _note(self, kind: str, text: str, now_s: float) -> None:
        if now_s - self._noted_s.get(kind, -math.inf) >= REPEAT_S:
            self._noted_s[kind] = now_s
            self._notes.append(text)


def _is_sound(reading: Reading) -> bool:
    return math.isfinite(reading.energy_mj)
