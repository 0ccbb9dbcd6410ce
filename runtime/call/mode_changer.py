"""A thread that changes the device's power mode, away from the calls."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING, Protocol, final

from ..load.points import points_in_modes
from ..modes import open_modes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..bundle.engines import EngineSet
    from ..bundle.folder import Bundle
    from ..governor import OperatingPoint
    from ..governor.modes import Mode
    from ..modes import Modes
    from .in_modes import ControllerInModes

_LOG = logging.getLogger(__name__)

LOOK_S = 0.05
"""How often it is looked at which mode is wanted."""
RETRY_S = 60.0
"""For how long nothing is changed after a change has failed."""


class Changer(Protocol):
    """What changes the mode of an engine, to which it belongs.

    Attributes:
        modes: Those that may be in force, as they were measured.
    """

    modes: Sequence[Mode]

    def serve(self, control: ControllerInModes, now_ns: Callable[[], int]) -> None:
        """Takes note of whose mode to change, and of the clock of its calls."""

    @property
    def now(self) -> str:
        """The mode in force, one of its ``modes``."""

    def close(self) -> None:
        """Waits for a change under way, and brings back what was in force at first."""


@final
class ModeChanger:
    """Looks which mode the governor wants, and has the actuator change into it.

    Args:
        actuator: Changes the device's mode. It belongs to this from now on.
        modes: What was measured in each of the actuator's modes.
        power_modes: How the device told each mode when it was measured. What is told
            otherwise once it is in force does not hold, which is logged.

    Raises:
        ModeError: None of the modes is in force, and the fastest cannot be brought about.
    """

    def __init__(
        self, actuator: Modes, modes: Sequence[Mode], power_modes: Mapping[str, str]
    ) -> None:
        self.modes, self._actuator, self._power_modes = modes, actuator, power_modes
        self._control: ControllerInModes | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, name="skipc-modes", daemon=True)
        self._retry_ns = 0
        self._told: set[str] = set()
        if actuator.now not in power_modes:
            fastest = min(modes, key=lambda mode: mode.log_speed)
            actuator.change(fastest.name)
        self._compare(self.now)

    @property
    def now(self) -> str:
        """The mode in force."""
        return self._actuator.now or ""

    @property
    def points(self) -> Sequence[OperatingPoint]:
        """What was measured in the mode in force."""
        return next(mode.points for mode in self.modes if mode.name == self.now)

    def serve(self, control: ControllerInModes, now_ns: Callable[[], int]) -> None:
        """Changes the mode of what is controlled, when it looks."""
        self._control, self._now_ns = control, now_ns

    def start(self) -> None:
        """Looks again and again from now on, in a thread of its own."""
        self._thread.start()

    def look(self) -> None:
        """Changes the mode if another one is wanted; a change that fails changes nothing."""
        control = self._control
        if control is None or self._now_ns() < self._retry_ns:
            return
        before, to = control.mode, control.wanted(self._now_ns())
        if to == before:
            return
        control.begin_change(to, self._now_ns())
        try:
            self._actuator.change(to)
        except Exception as failure:  # whatever it was, calls must be learnt from again
            now_ns = self._now_ns()
            self._retry_ns = now_ns + round(RETRY_S * 1e9)
            control.fail_change(now_ns, before, str(failure))
            self._say(f"the mode stays {before!r}: {failure}")
        else:
            control.end_change(self._now_ns())
            self._compare(to)

    def _compare(self, mode: str) -> None:
        """Says where the device tells a mode otherwise than when it was measured."""
        told, measured = self._actuator.power_mode(), self._power_modes[mode]
        if told != measured:
            self._say(
                f"the mode {mode!r} was measured as {measured!r}, and is {told!r} now: its"
                " table does not hold. Measure again with `trtbench --update --modes`."
            )

    def _say(self, text: str) -> None:
        """Logs something, once."""
        if text not in self._told:
            self._told.add(text)
            _LOG.warning("%s", text)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()

    def close(self) -> None:
        """Waits for a change under way, and brings back what was in force at first.

        Raises:
            ModeError: That cannot be brought back.
        """
        with ExitStack() as stack:
            stack.callback(self._actuator.close)
            self._stop.set()
            # An engine that is forgotten may be collected in any thread, this one included.
            if self._thread.is_alive() and self._thread is not current_thread():
                self._thread.join()


def changer_for(
    bundle: Bundle, engines: EngineSet | None, threads: int, names: Sequence[str]
) -> ModeChanger:
    """Returns what changes between power modes of this device that were measured on it.

    Raises:
        ModeError: A mode is none of this device's, was not measured on it, or may not be set.
    """
    with ExitStack() as stack:
        actuator = open_modes(names)
        stack.callback(actuator.close)
        measured = points_in_modes(bundle, engines, threads, actuator.names)
        told = {name: power_mode for name, (_, power_mode) in measured.items()}
        modes = tuple(mode for mode, _ in measured.values())
        changer = ModeChanger(actuator, modes, told)
        stack.pop_all()
    return changer
