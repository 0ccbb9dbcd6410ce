"""The meter ``hwmon``: the power rails of a Jetson, integrated over time.

The chips tell power, not energy. Between two reads power is taken to change evenly (the
trapezoidal rule), so the meter is as good as it is read often: see ``Sampler``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import MeterError, MeterUnavailableError, choices_text
from .boards import board_with, likely_board
from .meter import Reading
from .rails import find_rails

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..clock import Clock
    from .boards import Board
    from .meter import Meter
    from .rails import Rail

# Each file that is read waits for a conversion on a bus that the board's own power management
# uses, too.
_LEAST_PERIOD_S = 0.01


class _RailMeter:
    """The energy of one or several rails since the first read."""

    estimated = False

    def __init__(self, name: str, covers: str, rails: Sequence[Rail], clock: Clock) -> None:
        self.name = name
        self.covers = covers
        self.period_s = max(_LEAST_PERIOD_S, *(rail.period_s for rail in rails))
        self.resolution_mj = sum(rail.step_mw() for rail in rails) * self.period_s
        self._rails = tuple(rails)
        self._clock = clock
        self._energy_mj = 0.0
        self._last: tuple[int, float] | None = None

    def read(self) -> Reading:
        """Returns the energy since the first read.

        A rail that shows less than nothing counts as 0: on a board at rest that is its
        sensor's offset, and energy would fall. When one could not be read for a while, power
        in between is taken to have changed evenly.
        """
        before_ns = self._clock.now_ns()
        power_mw = sum(max(0.0, rail.power_mw()) for rail in self._rails)
        # Reading takes the chips' conversions, tens of milliseconds: the values are of the
        # middle, on average.
        time_ns = (before_ns + self._clock.now_ns()) // 2
        if self._last is not None:
            last_ns, last_mw = self._last
            self._energy_mj += (last_mw + power_mw) / 2 * (time_ns - last_ns) * 1e-9
        self._last = (time_ns, power_mw)
        return Reading(self._energy_mj, time_ns)

    def close(self) -> None:
        """Does nothing: no file stays open."""


def open_kind(argument: str, clock: Clock, system: Path) -> Meter:
    """Returns the meter of the rails with these labels, joined by ``+``; "" for the total."""
    rails = _rails(system)
    board = board_with(_labels(rails))
    if not argument and board is None:
        raise _unknown_board(_labels(rails))
    labels = tuple(argument.split("+")) if argument else board.total if board else ()
    chosen = [_rail(label, rails) for label in labels]
    _check_sum(labels, board)
    name = f"hwmon:{argument}" if argument else "hwmon"
    return _RailMeter(name, _covers(labels, board), chosen, clock)


def specs(system: Path) -> tuple[str, ...]:
    """Returns the total, where the board is known, and every single rail."""
    labels = _labels(_rails(system))
    total = ("hwmon",) if board_with(labels) is not None else ()
    return (*total, *(f"hwmon:{label}" for label in labels))


def _rails(system: Path) -> list[Rail]:
    rails = find_rails(system)
    if not rails:
        raise MeterUnavailableError(
            f"no power rail was found: no INA3221 or INA238 shows one under"
            f" {system / 'class/hwmon'}. Jetson boards have them."
        )
    return rails


def _labels(rails: list[Rail]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rail.label for rail in rails))


def _rail(label: str, rails: list[Rail]) -> Rail:
    found = [rail for rail in rails if rail.label == label]
    if not found:
        raise MeterUnavailableError(
            f"there is no power rail {label!r}. {choices_text(label, _labels(rails))}"
        )
    if len(found) > 1:
        places = " and ".join(str(rail.place) for rail in found)
        raise MeterUnavailableError(
            f"{len(found)} power rails are called {label!r}, in {places}: which one is meant"
            " cannot be told. Name others."
        )
    return found[0]


def _covers(labels: tuple[str, ...], board: Board | None) -> str:
    joined = " + ".join(labels)
    if board is not None and labels == board.total:
        return f"{board.covers} ({joined})"
    if len(labels) > 1:
        return f"the power rails {joined}"
    holder = board.rails.get(joined) if board is not None else ""
    return f"the power rail {joined}{f', part of {holder}' if holder else ''}"


def _check_sum(labels: tuple[str, ...], board: Board | None) -> None:
    for label in labels:
        holder = board.holder(label, labels) if board is not None else ""
        if holder:
            raise MeterError(
                f"the power of {label!r} is part of {holder!r}: {'+'.join(labels)!r} would"
                " count it twice. Leave one of them out."
            )
        if labels.count(label) > 1:
            raise MeterError(
                f"{'+'.join(labels)!r} names the power rail {label!r} twice. Name each once."
            )


def _unknown_board(labels: tuple[str, ...]) -> MeterUnavailableError:
    found = ", ".join(repr(label) for label in labels)
    likely = likely_board(labels)
    if likely is None:
        why = "are of no board that skipc knows"
    else:
        missing = ", ".join(repr(rail) for rail in likely.total if rail not in labels)
        why = f"look like {likely.name}, whose total needs {missing}"
    return MeterUnavailableError(
        f"the power rails found here ({found}) {why}. Say which ones make up the total:"
        f" 'hwmon:{labels[0]}', or several as 'hwmon:A+B'."
    )
