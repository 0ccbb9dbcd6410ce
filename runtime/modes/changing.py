"""Changes the power mode of the device, while it is asked to, and puts back what was."""

from __future__ import annotations

import logging
import os
import weakref
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..bundle.device import power_mode
from ..errors import ModeError, choices_text, sentence
from ..meters.sysfs import read_optional_text
from . import gpus, limits, nvpmodel
from .actuators import NOT_TOLD
from .guard import Before, Guard, guard_file, guard_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from .actuators import Actuator, Setting

Settings: TypeAlias = "Mapping[str, Setting]"
"""What a mode sets, by kind."""

_LOG = logging.getLogger(__name__)

_ROOT = Path("/")
# The first sets clocks too, so it comes before what sets them alone.
KINDS = (
    *(nvpmodel.KIND, limits.PROFILE, limits.CPUFREQ, limits.DEVFREQ, limits.POWERCAP),
    gpus.KIND,
)
_NOT_IN_FILES = (limits.POWERCAP, gpus.KIND)  # what ``power_mode`` of the device does not tell
_OUTLASTS = (nvpmodel.KIND,)  # a start of the system
_SETS_CLOCKS = (limits.CPUFREQ, limits.DEVFREQ)


class Modes(Protocol):
    """Some power modes of one device, of which one may be put in force at a time."""

    @property
    def names(self) -> tuple[str, ...]:
        """The modes, as the device calls them."""

    @property
    def now(self) -> str | None:
        """Which of them is in force; None if it is another one."""

    def change(self, name: str) -> None:
        """Puts one of ``names`` in force, and returns when it is.

        Raises:
            ModeError: It cannot be; what was in force still is, unless the message says so.
        """

    def power_mode(self) -> str:
        """Returns what is in force, as ``Device.power_mode`` tells it."""

    def close(self) -> None:
        """Puts in force what was before the first change.

        Raises:
            ModeError: It cannot be; the next process that opens modes tries again.
        """


def open_modes(
    names: Sequence[str], root: Path = _ROOT, guard: Path | None = None
) -> DeviceModes:
    """Returns some power modes of this device, for ``close`` to end.

    Nothing is changed, but what a process left that was killed is put back first.

    Args:
        names: Modes as ``skipc targets --modes`` writes them, e.g. ``MODE_15W``, ``15W`` for
            short, ``platform_profile:low-power``, ``cpufreq:1200MHz``; with ``+`` between
            them several at once. All must set the same.
        root: The folder to take for ``/``.
        guard: Where it is kept what was in force; None for this user's ``guard_folder``.

    Raises:
        ModeError: One is not offered here, takes a reboot or a right that this user has not;
            or another process changes modes now.
    """
    if isinstance(names, str):
        raise ModeError(f"modes={names!r} is a text. Give a list of names: [{names!r}].")
    kinds = {kind for text in names for kind, _ in _parts(text)}
    with ExitStack() as stack:
        kept = Guard(guard or guard_folder())
        stack.callback(kept.release)
        _put_back_left(kept, root)
        actuators = _opened(kinds, root, kept.lock, stack)
        modes: dict[str, Settings] = {}
        for text in names:
            name, settings = _mode(text, actuators)
            if name in modes:
                raise ModeError(f"modes: {name!r} is named twice. Leave one of them out.")
            modes[name] = settings
        _check_alike(modes)
        for settings in modes.values():
            for kind, setting in settings.items():
                actuators[kind].check_may(setting)
        return DeviceModes(modes, actuators, kept, root, stack.pop_all())


def restore_modes(root: Path = _ROOT, guard: Path | None = None) -> Before | None:
    """Puts back what a process left that was killed, and returns it; None if none did.

    Raises:
        ModeError: It cannot be put back, or another process changes modes now.
    """
    folder = guard or guard_folder()
    if not os.path.lexists(guard_file(folder)):
        return None
    kept = Guard(folder)
    try:
        return _put_back_left(kept, root)
    finally:
        kept.release()


class DeviceModes:
    """Some power modes of this device. One thread at a time may use it."""

    def __init__(
        self,
        modes: Mapping[str, Settings],
        actuators: Mapping[str, Actuator],
        guard: Guard,
        root: Path,
        opened: ExitStack,
    ) -> None:
        self._modes = modes
        self._root = root
        self._state = _State(actuators, guard, opened)
        # At the end of the program, or when nobody holds it any more.
        self._end = weakref.finalize(self, _end, self._state)

    @property
    def names(self) -> tuple[str, ...]:
        """The modes, as the device calls them."""
        return tuple(self._modes)

    @property
    def now(self) -> str | None:
        """Which of them is in force; None if it is another one."""
        actuators = self._state.actuators
        for name, settings in self._modes.items():
            if all(actuators[kind].holds(one) for kind, one in settings.items()):
                return name
        return None

    def change(self, name: str) -> None:
        """Puts one of ``names`` in force, and returns when it is; as ``Modes.change``."""
        wanted = self._modes.get(name)
        if wanted is None:
            raise ModeError(f"no mode {name!r} is open. {choices_text(name, self._modes)}")
        self._state.change(wanted, _boot_id(self._root))

    def power_mode(self) -> str:
        """Returns what is in force, as ``Device.power_mode`` tells it.

        That is what the files of the device tell, and which of these modes holds where it
        sets what they do not.
        """
        told = [power_mode(self._root)]
        for kind in _NOT_IN_FILES:
            for settings in self._modes.values():
                if kind in settings and self._state.actuators[kind].holds(settings[kind]):
                    told.append(f"{kind}:{self._state.actuators[kind].word(settings[kind])}")
                    break
        return "; ".join(filter(None, told))

    def close(self) -> None:
        """Puts in force what was before the first change; as ``Modes.close``."""
        if self._end.detach() is not None:
            self._state.close()


class _State:
    """What is put back when nobody holds the modes any more."""

    def __init__(
        self, actuators: Mapping[str, Actuator], guard: Guard, opened: ExitStack
    ) -> None:
        self.actuators = actuators
        self._guard = guard
        self._opened = opened
        self._before: Settings | None = None
        self._pid = os.getpid()

    def change(self, wanted: Settings, boot_id: str) -> None:
        """Puts a mode in force; where it cannot be, what is in force now."""
        if self._pid != os.getpid() or self._guard.lock < 0:
            raise ModeError("these modes were closed, or opened by the process before a fork.")
        earlier = {kind: self.actuators[kind].now(one) for kind, one in wanted.items()}
        if self._before is None:
            _check_told(earlier)
            for kind, one in earlier.items():
                self.actuators[kind].check(one)
            self._guard.write(Before(self._pid, boot_id, earlier))
            self._before = earlier
        try:
            _put(wanted, self.actuators)
        except ModeError as error:
            try:
                _check_told(earlier)
                _put(earlier, self.actuators)
            except ModeError as second:
                raise ModeError(
                    f"{sentence(str(error))} What was in force cannot be put back now:"
                    f" {sentence(str(second))} It is tried again at the end, and by the next"
                    f" that opens modes ({self._guard.file})."
                ) from error
            raise

    def close(self) -> None:
        """Puts back what was, and lets go of all."""
        with self._opened:
            if self._pid == os.getpid() and self._before is not None:
                _put_back(self._before, self.actuators, self._guard)


def _end(state: _State) -> None:
    try:
        state.close()
    except ModeError as error:  # nobody is left who could act on it
        _LOG.warning("%s", error)


def _opened(
    kinds: Collection[str], root: Path, lock: int, stack: ExitStack
) -> dict[str, Actuator]:
    """Returns the actuators of some kinds that this device has; ``stack`` closes them."""
    openers: dict[str, Callable[[], Actuator | None]] = {
        nvpmodel.KIND: lambda: nvpmodel.open_actuator(root, lock),
        limits.PROFILE: lambda: limits.open_profile(root),
        limits.CPUFREQ: lambda: limits.open_cpufreq(root),
        limits.DEVFREQ: lambda: limits.open_devfreq(root),
        limits.POWERCAP: lambda: limits.open_powercap(root),
        gpus.KIND: gpus.open_actuator,
    }
    found = {}
    for kind in KINDS:
        actuator = openers[kind]() if kind in kinds else None
        if actuator is not None:
            found[kind] = stack.enter_context(closing(actuator))
    return found


def _parts(text: str) -> list[tuple[str, str]]:
    """Returns the kinds that a mode names, with the word for each."""
    if not isinstance(text, str) or not text:
        raise ModeError(f"modes: {text!r} is no name of a mode, such as '15W'.")
    found = []
    for part in text.split("+"):
        kind, colon, word = part.partition(":")
        found.append((kind, word) if colon else (nvpmodel.KIND, part))
        if found[-1][0] not in KINDS:
            raise ModeError(f"unknown kind of mode in {text!r}. {choices_text(kind, KINDS)}")
    return found


def _mode(text: str, actuators: Mapping[str, Actuator]) -> tuple[str, Settings]:
    """Returns the name of a mode that a user wrote, and what it sets."""
    settings: dict[str, dict[str, str]] = {}
    for kind, word in _parts(text):
        if kind not in actuators:
            raise ModeError(
                f"the mode {text!r} is of the kind {kind}, which this machine does not offer."
                " See what it offers: skipc targets --modes"
            )
        setting = actuators[kind].setting(word)
        mine = settings.setdefault(kind, {})
        if mine.keys() & setting.keys():
            raise ModeError(f"the mode {text!r} sets {kind} twice. Leave one of them out.")
        mine.update(setting)
    both = [kind for kind in _SETS_CLOCKS if kind in settings and nvpmodel.KIND in settings]
    if both:
        raise ModeError(
            f"the mode {text!r} sets clocks twice: nvpmodel sets those of {both[0]} too. Leave"
            " one of them out."
        )
    words = [
        _word(kind, actuators[kind].word(settings[kind])) for kind in KINDS if kind in settings
    ]
    return "+".join(words), {kind: settings[kind] for kind in KINDS if kind in settings}


def _word(kind: str, word: str) -> str:
    return word if kind == nvpmodel.KIND else f"{kind}:{word}"


def _check_alike(modes: Mapping[str, Settings]) -> None:
    """Raises ``ModeError`` unless there are modes, and each sets what each other one does."""
    if not modes:
        raise ModeError("modes: name at least one, such as '15W'. See: skipc targets --modes")
    sets = {name: {k: one.keys() for k, one in s.items()} for name, s in modes.items()}
    (first, wanted), *others = sets.items()
    for name, found in others:
        if found != wanted:
            raise ModeError(
                f"the modes {first!r} and {name!r} do not set the same, so that one would not"
                " undo the other. Name modes of one kind, or the same kinds in each, with '+'."
            )


def _check_told(settings: Settings) -> None:
    """Raises ``ModeError`` where it is not told what is in force, which is to come back."""
    for kind, setting in settings.items():
        for name, value in setting.items():
            if value == NOT_TOLD:
                raise ModeError(
                    f"{kind}: the device does not tell what is in force of {name}, so that it"
                    " cannot be put back. Look with: skipc targets --modes"
                )


def _put(settings: Settings, actuators: Mapping[str, Actuator]) -> None:
    for kind, setting in settings.items():
        actuators[kind].put(setting)


def _put_back_left(guard: Guard, root: Path) -> Before | None:
    """Puts back what a process left; of another start of the system only what outlasts it."""
    left = guard.left()
    if left is None:
        return None
    same = left.boot_id == _boot_id(root)
    settings = {k: one for k, one in left.settings.items() if same or k in _OUTLASTS}
    with ExitStack() as stack:
        _put_back(settings, _opened(settings, root, guard.lock, stack), guard)
    _LOG.warning(
        "the process %d ended without putting back the power mode that was: done now",
        left.pid,
    )
    return left


def _put_back(settings: Settings, actuators: Mapping[str, Actuator], guard: Guard) -> None:
    try:
        for kind, setting in settings.items():
            if kind not in actuators:
                raise ModeError(f"this device offers no {kind!r} now.")
            actuators[kind].check(setting)
        _put({kind: settings[kind] for kind in KINDS if kind in settings}, actuators)
    except ModeError as error:
        raise ModeError(
            "what was in force before modes were changed cannot be put back:"
            f" {sentence(str(error))} It is written down in {guard.file}: try 'skipc targets"
            " --modes --restore', or set it yourself and remove that file."
        ) from error
    guard.remove()


def _boot_id(root: Path) -> str:
    return read_optional_text(root / "proc/sys/kernel/random/boot_id")
