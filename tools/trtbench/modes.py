"""A family in several power modes: a table for each, and how long coming to each takes.

How long is what a caller sees: from asking for the mode until calls take as long as they do
in it. The fastest configuration is called, back to back; each change is made three times, and
the longest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime.bundle.measured import MeasuredMode
from skipc.runtime.load.points import operating_points
from skipc.runtime.modes import open_modes
from skipc.tools.console import progress, table
from skipc.tools.trtbench.loading import load_family
from skipc.tools.trtbench.measuring import measure, runs_on
from skipc.tools.trtbench.output import print_report, write_table

if TYPE_CHECKING:
    from rich.console import Console

    from skipc.runtime.modes import Modes
    from skipc.tools.console import Steps
    from skipc.tools.trtbench.command import Asked
    from skipc.tools.trtbench.measuring import OpenBundle

_TIMES = 3
_IN_A_ROW = 5  # a single call may be as fast as in another mode
_LONGEST_S = 10.0
_FOLLOWS_S = 0.5  # before this a device may not have begun to follow
_STRETCH_CALLS, _STRETCH_S = 20, 0.1
_SETTLED = 0.03
_AROUND = 0.1
_LEAST_MS = 1e-6  # where the clock did not move


@dataclass(frozen=True, slots=True)
class _Level:
    """Between what a call takes in a mode."""

    least_ms: float
    most_ms: float

    def holds(self, latency_ms: float) -> bool:
        """Whether a call was as fast as in the mode."""
        return self.least_ms <= latency_ms <= self.most_ms


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls one configuration, and the clock that times it."""

    call: Callable[[], object]
    now_ns: Callable[[], int]

    def level(self) -> _Level:
        """Returns what calls take once two stretches agree, or after ten seconds."""
        start_ns, before_ms = self.now_ns(), float("inf")
        end_ns = start_ns + round(_LONGEST_S * 1e9)
        while self.now_ns() < start_ns + _FOLLOWS_S * 1e9:
            self.call()
        while True:
            found_ms, start_ns = [self._ms()], self.now_ns()
            while (
                len(found_ms) < _STRETCH_CALLS or self.now_ns() < start_ns + _STRETCH_S * 1e9
            ):
                found_ms.append(self._ms())
            middle_ms = median(found_ms)
            settled = abs(middle_ms / before_ms - 1) <= _SETTLED
            if settled or self.now_ns() >= end_ns:
                low_ms, high_ms = np.percentile(found_ms, (5, 95))
                return _Level(
                    min(float(low_ms), (1 - _AROUND) * middle_ms),
                    max(float(high_ms), (1 + _AROUND) * middle_ms),
                )
            before_ms = middle_ms

    def until(self, level: _Level, start_ns: int) -> float | None:
        """Returns the milliseconds from ``start_ns`` until calls are as fast as in a mode.

        None where they are not within ten seconds.
        """
        first_ns, in_a_row = start_ns, 0
        while (begun_ns := self.now_ns()) < start_ns + _LONGEST_S * 1e9:
            in_a_row = in_a_row + 1 if level.holds(self._ms()) else 0
            if in_a_row == 1:
                first_ns = begun_ns
            if in_a_row == _IN_A_ROW:
                return max((first_ns - start_ns) / 1e6, _LEAST_MS)
        return None

    def _ms(self) -> float:
        start_ns = self.now_ns()
        self.call()
        return (self.now_ns() - start_ns) / 1e6


def measure_in_modes(
    names: tuple[str, ...], asked: Asked, opened: Callable[[Steps], OpenBundle], out: Console
) -> None:
    """Measures a family in each of some power modes, and writes the table of each.

    At the end, errors and Ctrl-C included, what was in force before is in force again.

    Args:
        names: The modes, as ``open_modes`` takes them.
        asked: What else the command line says.
        opened: Opens the family anew.
        out: Where the reports go.

    Raises:
        ModeError: A mode cannot be set, or what was in force not be put back.
        SkipcError: What ``measure`` raises.
    """
    with closing(open_modes(names)) as modes:
        with progress() as step, closing(_Family(opened, step)) as family:
            changes = changes_ms(modes, family.caller, step)
        for name in modes.names:
            _measure(name, modes, asked, opened, changes[name], out)
        _print_changes(changes, out)


class _Family:
    """An open family, of which the fastest configuration is called."""

    def __init__(self, opened: Callable[[Steps], OpenBundle], step: Steps) -> None:
        family = opened(step)
        with ExitStack() as stack:
            stack.enter_context(closing(family.backend))
            engines, _ = load_family(family, stack)
            manifest, threads = family.bundle.manifest, family.backend.threads
            points = operating_points(manifest, family.engines, threads)
            name = min(points, key=lambda point: point.p50_ms).configuration
            call = partial(runs_on(engines, family)[name], family.cases[0])
            self.caller = Caller(call, family.clock.now_ns)
            self.close = stack.pop_all().close


def changes_ms(modes: Modes, caller: Caller, step: Steps) -> dict[str, dict[str, float]]:
    """Returns by mode, and by the mode before, the milliseconds that coming to it takes.

    A pair whose calls do not become as fast as in the mode is left out.
    """
    levels = {}
    for name in modes.names:
        step(f"calls in the power mode {name}")
        modes.change(name)
        levels[name] = caller.level()
    found: dict[str, dict[str, float]] = {name: {} for name in modes.names}
    for before, after in permutations(modes.names, 2):
        step(f"changes from {before} to {after}")
        taken_ms = [_change_ms(modes, caller, levels, before, after) for _ in range(_TIMES)]
        known_ms = [ms for ms in taken_ms if ms is not None]
        if len(known_ms) == _TIMES:
            found[after][before] = max(known_ms)
    return found


def _change_ms(
    modes: Modes, caller: Caller, levels: Mapping[str, _Level], before: str, after: str
) -> float | None:
    modes.change(before)
    if caller.until(levels[before], caller.now_ns()) is None:
        return None
    start_ns = caller.now_ns()
    modes.change(after)
    return caller.until(levels[after], start_ns)


def _measure(
    name: str,
    modes: Modes,
    asked: Asked,
    opened: Callable[[Steps], OpenBundle],
    change_ms: Mapping[str, float],
    out: Console,
) -> None:
    """Measures the family in one mode, prints the report and writes the table."""
    longest_ms = max([asked.warm_up_ms, *change_ms.values()])
    settled = replace(asked, warm_up_ms=longest_ms)
    with progress() as step:
        step(f"coming to the power mode {name}")
        modes.change(name)
        family = opened(step)
        with closing(family.backend):
            found = measure(family, settled, step)
    regime = replace(found.report.regime, power_mode=modes.power_mode())
    found = replace(found, report=replace(found.report, regime=regime))
    out.print(f"\nPower mode {name}", style="bold")
    print_report(found.report, out)
    if family.engines is not None:
        mode = MeasuredMode(name, change_ms)
        said = write_table(family.bundle, family.engines, found, mode)
        out.print(f"\n{said}", soft_wrap=True)


def _print_changes(changes: Mapping[str, Mapping[str, float]], out: Console) -> None:
    rows = table("power mode", "from", ">ms until calls are as fast as in it")
    for after, before in permutations(changes, 2):
        ms = changes[after].get(before)
        known = f"more than {_LONGEST_S * 1e3:g}: left out" if ms is None else f"{ms:.4g}"
        rows.add_row(after, before, known)
    if rows.row_count:
        out.print("")
        out.print(rows)
