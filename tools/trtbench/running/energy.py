"""Energy per inference: windows of one configuration each, long enough for the meter."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from skipc.runtime.errors import MeterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skipc.runtime import Meter, Reading
    from skipc.runtime.backends import Arrays, Engine

WINDOWS = 5
"""Windows of each configuration."""

LEAST_STEPS = 20
"""A window spans this many periods and this many resolutions of its meter, at least: then a
step more or less at either end changes it by 5 %."""

_LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one configuration.

    Attributes:
        windows_mj: Millijoules per call, one value for each window.
    """

    windows_mj: tuple[float, ...]

    @property
    def mean_mj(self) -> float:
        """The mean over the windows."""
        return fmean(self.windows_mj)

    @property
    def spread_mj(self) -> float | None:
        """The standard deviation over the windows; None if there is only one."""
        return stdev(self.windows_mj) if len(self.windows_mj) > 1 else None


def measure_energy(
    engines: Mapping[str, Engine],
    cases: Sequence[Arrays],
    meter: Meter,
    latest: Callable[[], Reading | None],
    now_ns: Callable[[], int],
) -> dict[str, Energy]:
    """Returns the energy of every configuration, from ``WINDOWS`` windows each, by turns.

    Args:
        engines: By configuration, warm.
        cases: Inputs, taken in turn.
        meter: What is read.
        latest: Returns its last reading, timed with ``now_ns``'s clock.
        now_ns: The clock.

    Raises:
        MeterError: The meter shows nothing new, or too little, for a minute.
        BackendError: A call failed.
    """
    found: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(WINDOWS):
        for name, engine in engines.items():
            found[name].append(_window_mj(engine, cases, meter, latest, now_ns))
    return {name: Energy(tuple(values)) for name, values in found.items()}


def _window_mj(
    engine: Engine,
    cases: Sequence[Arrays],
    meter: Meter,
    latest: Callable[[], Reading | None],
    now_ns: Callable[[], int],
) -> float:
    """Returns millijoules per call between two readings that were taken during the calls."""
    least_ns = LEAST_STEPS * meter.period_s * 1e9
    least_mj = LEAST_STEPS * meter.resolution_mj
    begun_ns = now_ns()
    ends_ns = [begun_ns]
    first: Reading | None = None
    while True:
        engine.run(cases[len(ends_ns) % len(cases)])
        ends_ns.append(now_ns())
        reading = latest()
        if reading is None or reading.time_ns < begun_ns:
            pass  # of the configuration before
        elif first is None:
            first = reading
        elif reading.energy_mj < first.energy_mj:
            first = reading  # the device's counter began anew
        else:
            spent_mj = reading.energy_mj - first.energy_mj
            passed_ns = reading.time_ns - first.time_ns
            if passed_ns >= least_ns and spent_mj >= least_mj:
                return spent_mj / _calls_between(ends_ns, first.time_ns, reading.time_ns)
        if ends_ns[-1] - begun_ns > max(_LONGEST_S * 1e9, 10 * least_ns):
            raise MeterError(
                f"the meter {meter.name!r} did not move by {LEAST_STEPS} of its steps of"
                f" {meter.resolution_mj:g} mJ in {(ends_ns[-1] - begun_ns) / 1e9:.0f} s of"
                " inferences. See what it shows with `skipc meters`, or leave out --meter."
            )


def _calls_between(ends_ns: Sequence[int], first_ns: int, last_ns: int) -> float:
    """Returns how many calls lie between two times; of one cut by a time, its share.

    Args:
        ends_ns: When the calls ended, one after the other without a gap; the first value is
            when the first call began.
        first_ns: The earlier time, at or after the first value.
        last_ns: The later time; what lies after the last value counts nothing.
    """
    calls = 0.0
    for start_ns, end_ns in pairwise(ends_ns):
        inside_ns = min(end_ns, last_ns) - max(start_ns, first_ns)
        if inside_ns > 0:
            calls += inside_ns / (end_ns - start_ns)
    return calls
