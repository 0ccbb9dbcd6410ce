"""What every kind of power mode can do: be listed, be named, be read, be set and read back."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..errors import ModeError

if TYPE_CHECKING:
    from pathlib import Path

Setting: TypeAlias = Mapping[str, str]
"""Values of one kind by what is set, in the device's own units: ``policy0`` to ``1728000``."""

ROOT = "root"
NOT_TOLD = ""

_WHOLE = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that caps power or clocks, and can be set otherwise.

    Attributes:
        kind: What it is: ``nvpmodel``, ``platform_profile``, ``cpufreq``, ``devfreq``,
            ``powercap`` or ``nvml``.
        name: Which one of its kind, or which mode.
        now: Its value; of a mode whether it is in force.
        choices: What it may be set to, in words.
        needs: What it takes to set it; empty if this user may.
        mode: How a mode that sets it is written: itself, or one with today's value. Empty if
            no mode does.
    """

    kind: str
    name: str
    now: str
    choices: str
    needs: str
    mode: str = ""


class Actuator(Protocol):
    """Sets one kind of limits on this device; all of its methods may raise ``ModeError``."""

    def setting(self, word: str) -> Setting:
        """Returns what a user's word for a value of this kind sets."""

    def word(self, setting: Setting) -> str:
        """Returns the word of a setting, without the kind."""

    def check(self, setting: Setting) -> None:
        """Checks that this device takes a setting, which may come from a file."""

    def check_may(self, setting: Setting) -> None:
        """Checks that this user may make a setting now, without a reboot."""

    def now(self, setting: Setting) -> Setting:
        """Returns what is in force of what ``setting`` sets; ``NOT_TOLD`` where that is so."""

    def holds(self, setting: Setting) -> bool:
        """Tells whether a setting is in force, as far as the driver rounds."""

    def put(self, setting: Setting) -> None:
        """Puts a setting in force and reads it back."""

    def close(self) -> None:
        """Lets go of the library that is asked; what is in force stays."""


def whole(text: str) -> int | None:
    """Returns the number that a text is, from 0; None if it is none."""
    return int(text) if _WHOLE.fullmatch(text) else None


def write_line(file: Path, text: str) -> None:
    """Writes one value into a file of the kernel.

    Raises:
        ModeError: It is gone, this user may not, or the driver takes another value or none.
    """
    line = f"{text}\n".encode()
    try:
        place = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            taken = os.write(place, line)
        finally:
            os.close(place)
    except OSError as cause:
        gone = isinstance(cause, FileNotFoundError)
        reason = "it is gone" if gone else f"the device answers {cause.strerror!r}"
        raise ModeError(
            f"{file}: {text!r} cannot be written: {reason}. 'skipc targets --modes' lists what"
            " this device offers now."
        ) from cause
    if taken < len(line):
        raise ModeError(
            f"{file}: the device took {taken} of the {len(line)} bytes of {text!r}."
            " Try again, or set it yourself."
        )


def may_write(file: Path) -> bool:
    """Tells, without writing, whether this user may write a file of the kernel."""
    return os.access(file, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def check_writable(file: Path) -> None:
    """Raises ``ModeError`` unless a file of the kernel is there and this user may write it."""
    if not file.exists():
        raise ModeError(f"{file} is gone. 'skipc targets --modes' lists what is there now.")
    if not may_write(file):
        raise ModeError(
            f"{file}: this user may not write it, which changing modes takes. Run it as root,"
            " or allow it with a udev rule (docs/modes.md)."
        )
