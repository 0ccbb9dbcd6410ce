"""What a meter says between two readings, without the readings that cannot be true.

A meter may stop, jump or start anew. None of that stops the engine: until the meter can be
believed again, energy is what the governor expects it to be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, final

from ..governor import Spent, after_reading

if TYPE_CHECKING:
    from ..governor import State
    from ..meters import Reading, Sampler

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
_IDLE = ""
MOST_CHARGES = 4096

Span: TypeAlias = "tuple[float, float]"
"""From one moment to another, in seconds."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The time between two readings: what it was expected to take, and what it took.

    ``measured_mj`` is None where the reading cannot be believed.
    """

    spent: Spent
    measured_mj: float | None


@dataclass(frozen=True, slots=True)
class _Charge:
    """What is expected to be taken from one moment to another, by ``_IDLE`` or what ran."""

    configuration: str
    expected_mj: float
    span: Span

    def share_until(self, moment_s: float) -> float:
        """Returns which share of it lies before a moment."""
        start_s, end_s = self.span
        if end_s <= moment_s:
            return 1.0
        if start_s >= moment_s:  # also that of a call which took no time
            return 0.0
        return (moment_s - start_s) / (end_s - start_s)

    def after(self, moment_s: float, expected_mj: float) -> _Charge:
        """Returns what lies after a moment."""
        start_s, end_s = self.span
        return _Charge(self.configuration, expected_mj, (max(start_s, moment_s), end_s))


def _merged(charges: list[_Charge]) -> list[_Charge]:
    """Returns one charge for each configuration."""
    found: dict[str, _Charge] = {}
    for charge in charges:
        known = found.get(charge.configuration)
        if known is None:
            found[charge.configuration] = charge
        else:
            mj = known.expected_mj + charge.expected_mj
            span = min(known.span[0], charge.span[0]), max(known.span[1], charge.span[1])
            found[charge.configuration] = _Charge(charge.configuration, mj, span)
    return list(found.values())


@final
class Metering:
    """Follows a meter; not for several threads at once."""

    def __init__(self, sampler: Sampler) -> None:
        self._source = sampler
        self.estimated = sampler.meter.estimated
        """Whether nothing is measured: a power is taken for granted."""
        self._changed = False
        self._least_mj = LEAST_RESOLUTIONS * sampler.meter.resolution_mj
        self._lost_s = max(LOST_PERIODS * sampler.meter.period_s, LOST_S)
        self._base: Reading | None = None
        self._seen: Reading | None = None
        self._moved_s: float | None = None
        self._usual_mw = 0.0
        self._implausible = 0
        self._charges: list[_Charge] = []
        self._expected_mj = self._until_s = 0.0
        self._notes: list[str] = []
        self._noted_s: dict[str, float] = {}
        self.total_mj = 0.0
        """Everything that was measured and believed."""
        self.lost = False
        """Whether the meter says nothing that can be believed."""

    def charge(self, configuration: str, expected_mj: float, span: Span) -> None:
        """Takes note of a call and of the energy that it is expected to have taken."""
        self._charges.append(_Charge(configuration, expected_mj, span))
        self._expected_mj += expected_mj
        if len(self._charges) > MOST_CHARGES:  # the meter says nothing for a long time
            self._charges = _merged(self._charges)

    def charge_idle(self, idle_s: float, idle_w: float, until_s: float) -> None:
        """Takes note of how long nothing ran, which took ``idle_w``."""
        if idle_s > 0:
            self.charge(_IDLE, idle_s * idle_w * _MW_PER_W, (until_s - idle_s, until_s))

    def changes(self) -> None:
        """Takes note that calls take another energy from now on.

        What this interval comes to says nothing about either.
        """
        self._changed = True

    def read(self, state: State, idle_s: float, now_s: float, now_ns: int) -> State:
        """Returns the state after what the meter says, if it says something new.

        Nothing ran for ``idle_s`` before this moment: ``now_s`` as calls are charged by,
        ``now_ns`` on the meter's clock.
        """
        self.charge_idle(idle_s, state.energy.idle_w, now_s)
        interval = self.ended_interval(now_s, now_ns)
        if interval is None or interval.measured_mj is None:
            return state
        return after_reading(state, interval.spent, interval.measured_mj)

    def take_notes(self) -> list[str]:
        """Returns what is to be logged, once."""
        notes, self._notes = self._notes, []
        return notes

    def ended_interval(self, now_s: float, now_ns: int) -> Interval | None:
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
            return self._ended(None, self._moment_s(reading, now_s, now_ns))
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
        learns, self._changed = not self._changed, False
        moment_s = self._moment_s(reading, now_s, now_ns)
        return self._ended(energy_mj if learns else None, moment_s)

    def _moment_s(self, reading: Reading | None, now_s: float, now_ns: int) -> float:
        """Returns when a reading was made, on the clock that calls are charged by."""
        if reading is None:
            return now_s
        age_s = (now_ns - reading.time_ns) / 1e9
        return min(max(now_s - age_s, self._until_s), now_s)

    def _ended(self, measured_mj: float | None, until_s: float) -> Interval:
        """Returns what was charged until a moment; what comes later begins the next one."""
        calls_mj: dict[str, float] = {}
        idle_mj, later = 0.0, []
        for charge in self._charges:
            within = charge.share_until(until_s)
            mj = within * charge.expected_mj
            if within < 1:
                later.append(charge.after(until_s, charge.expected_mj - mj))
            if charge.configuration == _IDLE:
                idle_mj += mj
            elif within > 0:
                calls_mj[charge.configuration] = calls_mj.get(charge.configuration, 0.0) + mj
        self._until_s = until_s
        self._charges = later
        self._expected_mj = sum(charge.expected_mj for charge in later)
        return Interval(Spent(calls_mj, idle_mj), measured_mj)

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
        return self._ended(None, now_s)

    def _note(self, kind: str, text: str, now_s: float) -> None:
        if now_s - self._noted_s.get(kind, -math.inf) >= REPEAT_S:
            self._noted_s[kind] = now_s
            self._notes.append(text)


def _is_sound(reading: Reading) -> bool:
    return math.isfinite(reading.energy_mj)
