"""A Jetson's power modes, as NVIDIA's ``nvpmodel`` lists, tells and sets them.

The modes are in ``/etc/nvpmodel.conf``, the number of the one in force in
``/var/lib/nvpmodel/status``; the program sets one by its number, as root.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import ModeError, choices_text, reason_of, sentence
from ..meters.sysfs import read_optional_text
from .actuators import NOT_TOLD, ROOT, Offer, Setting, check_writable, may_write, whole

if TYPE_CHECKING:
    from pathlib import Path

    from .actuators import Actuator

KIND = "nvpmodel"

_PROGRAM = "nvpmodel"
_LONGEST_S = 30.0  # clusters of CPUs go on and off; nobody has waited for longer
_KEY = "mode"
_REBOOT = "a reboot"
_SECTION = re.compile(r"<\s*(POWER_MODEL|PARAM|PM_CONFIG)\b([^>]*)>")
_FIELD = re.compile(r"(\w+)=(\S+)")
_IN_FORCE = re.compile(r"pmode:(\d{1,9})", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_UNCAPPED = -1  # as nvpmodel.conf writes it


@dataclass(slots=True)
class _Mode:
    """A mode of nvpmodel.conf: what it sets, by parameter and argument."""

    number: int
    name: str
    values: dict[tuple[str, str], str] = field(default_factory=dict)

    def clock_mhz(self, parameter: str, unit: float) -> str:
        """Returns the highest clock that it allows; empty if it says nothing of it."""
        found = [
            int(value)
            for (name, argument), value in self.values.items()
            if name.startswith(parameter)
            and argument == "MAX_FREQ"
            and _INTEGER.fullmatch(value)
        ]
        if not found:
            return ""
        highest = max(found)
        return "uncapped" if highest == _UNCAPPED else f"{highest / unit:.0f} MHz"

    @property
    def gated(self) -> frozenset[tuple[tuple[str, str], str]]:
        """What it gates of the GPU: changes while the GPU is in use need a reboot."""
        return frozenset(item for item in self.values.items() if "POWER_GATING" in item[0][0])

    @property
    def text(self) -> str:
        """What it means, in words."""
        online = [value for (name, _), value in self.values.items() if name == "CPU_ONLINE"]
        parts = [
            f"{online.count('1')} CPUs" if online else "",
            _told("CPU", self.clock_mhz("CPU_", 1e3)),
            _told("GPU", self.clock_mhz("GPU", 1e6)),
            _told("memory", self.clock_mhz("EMC", 1e6)),
        ]
        return ", ".join(filter(None, parts))


def offers(root: Path) -> list[Offer]:
    """Returns the modes of a Jetson, each of which caps everything."""
    modes, status = _modes(root), _status(root)
    number = _number_in_force(status)
    here = next((mode for mode in modes if mode.number == number), None)
    right = "" if may_write(status) else ROOT
    return [
        Offer(
            KIND,
            mode.name,
            "in force" if mode is here else "" if here else "not told",
            mode.text,
            " and ".join(filter(None, (right, _reboot_text(mode, here)))),
            mode.name,
        )
        for mode in modes
    ]


def open_actuator(root: Path, lock: int) -> Actuator | None:
    """Returns what sets the modes of a Jetson, None where there are none."""
    modes = _modes(root)
    return _NvpmodelActuator(modes, _status(root), lock) if modes else None


class _NvpmodelActuator:
    """Sets one of a Jetson's modes.

    ``lock`` is held by the program while it runs, whatever becomes of this process meanwhile.
    """

    def __init__(self, modes: list[_Mode], status: Path, lock: int) -> None:
        self._modes = {str(mode.number): mode for mode in modes}
        self._status = status
        self._lock = lock
        self._running = -1  # a pipe whose other end a program that was begun has

    def setting(self, word: str) -> Setting:
        names = {mode.name: number for number, mode in self._modes.items()}
        short = [name for name in names if word in name.split("_")]
        if word not in names and len(short) > 1:
            raise ModeError(
                f"the mode {word!r} may be {' or '.join(map(repr, sorted(short)))}. Write the"
                " whole name."
            )
        known = word if word in names else short[0] if short else None
        if known is None:
            raise ModeError(f"unknown power mode {word!r}. {choices_text(word, names)}")
        return {_KEY: names[known]}

    def word(self, setting: Setting) -> str:
        return self._modes[setting[_KEY]].name

    def check(self, setting: Setting) -> None:
        if list(setting) != [_KEY] or setting[_KEY] not in self._modes:
            raise ModeError(
                f"this device has no power mode of the number {setting.get(_KEY)!r}."
                f" {choices_text('', self._modes)}"
            )

    def check_may(self, setting: Setting) -> None:
        if shutil.which(_PROGRAM) is None:
            raise ModeError(
                "power modes of this device are set by the program nvpmodel, which is not"
                " found. Add its folder to PATH; it is usually /usr/sbin."
            )
        check_writable(self._status)
        wanted = self._modes[setting[_KEY]]
        here = self._modes.get(self.now(setting)[_KEY])
        if _reboot_text(wanted, here):
            state = "is not told" if here is None else f"is {here.name}"
            raise ModeError(
                f"the power mode {wanted.name} takes a reboot from the one in force, which"
                f" {state}: sudo nvpmodel -m {wanted.number}. Then open it again."
            )

    def now(self, setting: Setting) -> Setting:
        number = _number_in_force(self._status)
        return {_KEY: NOT_TOLD if number is None else str(number)}

    def holds(self, setting: Setting) -> bool:
        return self.now(setting) == setting

    def put(self, setting: Setting) -> None:
        self._await_last()
        if self.holds(setting):  # the program would set all clocks again
            return
        number = setting[_KEY]
        command, name = [_PROGRAM, "-m", number], self._modes[number].name
        self._running, other_end = os.pipe()
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LONGEST_S,
                pass_fds=(self._lock, other_end),
                check=False,
            )
        except subprocess.TimeoutExpired as cause:
            raise ModeError(
                f"nvpmodel -m {number} did not end in {_LONGEST_S:g} s. Try it in a terminal."
            ) from cause
        except OSError as cause:
            raise ModeError(f"nvpmodel cannot be run: {reason_of(cause)}.") from cause
        finally:
            os.close(other_end)
        self.close()
        said = (ended.stderr + ended.stdout).decode("utf-8", errors="replace").strip()[-400:]
        if ended.returncode != 0:
            raise ModeError(
                f"nvpmodel -m {number} ended with {ended.returncode}"
                f"{sentence(f': {said}' if said else '')}"
            )
        if not self.holds(setting):
            found = self._modes.get(self.now(setting)[_KEY])
            raise ModeError(
                f"nvpmodel -m {number} ended well, but {name} is not in force:"
                f" {self._status} names {'no mode' if found is None else found.name}."
                " Try it in a terminal."
            )

    def close(self) -> None:
        if self._running >= 0:
            os.close(self._running)
            self._running = -1

    def _await_last(self) -> None:
        """Waits for a program that an interrupt left running: it would have the last word."""
        if self._running >= 0:
            waiting = select.poll()
            waiting.register(self._running, select.POLLHUP)
            if not waiting.poll(_LONGEST_S * 1e3):
                raise ModeError(
                    f"nvpmodel was interrupted, and does not end in {_LONGEST_S:g} s. Look for"
                    " it with: ps -C nvpmodel"
                )
            self.close()


def _reboot_text(mode: _Mode, here: _Mode | None) -> str:
    return _REBOOT if here is None or mode.gated != here.gated else ""


def _status(root: Path) -> Path:
    return root / "var/lib/nvpmodel/status"


def _number_in_force(status: Path) -> int | None:
    found = _IN_FORCE.search(read_optional_text(status))
    return int(found[1]) if found else None


def _modes(root: Path) -> list[_Mode]:
    modes: list[_Mode] = []
    inside = False
    for line in read_optional_text(root / "etc/nvpmodel.conf").splitlines():
        section = _SECTION.match(line.strip())
        if section is not None:
            fields: dict[str, str] = dict(_FIELD.findall(section[2]))
            number = whole(fields.get("ID", ""))
            inside = section[1] == "POWER_MODEL" and number is not None
            if inside and number is not None:
                modes.append(_Mode(number, fields.get("NAME", fields["ID"])))
        elif inside and not line.startswith("#"):
            words = line.split()
            if len(words) == 3:
                modes[-1].values[words[0], words[1]] = words[2]
    return modes


def _told(what: str, value: str) -> str:
    return f"{what} {'to ' if value[:1].isdigit() else ''}{value}" if value else ""
