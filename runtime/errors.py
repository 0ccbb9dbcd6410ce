"""Every error the runtime raises, or what it is a kind of.

SkipcError
├─ BundleError            the directory is not a bundle that can be used
│  ├─ FormatError         a file does not have the form FORMAT.md gives
│  ├─ IntegrityError      a file is missing, too short, altered or outside the bundle
│  └─ VersionError        the format's version is not one this reader knows
├─ BackendError           the backend cannot do what was asked
│  ├─ BackendUnavailableError   its library is not installed
│  ├─ StaleEngineError    the engines were built for another host
│  └─ EngineError         the backend refused to load or run an engine; below it, where they
│                         are raised, ``CudaError``, ``DeviceMemoryError``, ``NotFiniteError``
├─ MeterError             a meter is named wrongly, or cannot be read now
│  └─ MeterUnavailableError     this machine lacks what it reads, or the right to read it
├─ ModeError              a power mode is named wrongly, cannot be set, or not be restored
├─ BudgetError            a budget is malformed, or (``strict``) nothing meets it
├─ ChoiceError            an argument is not one of its choices
├─ InputError             the caller's arrays do not fit the network's inputs
└─ ClosedError            the engine was used after ``close()``, or in a fork

Compiler, profiles and tools hang their own errors below ``SkipcError``.
"""

from __future__ import annotations

import difflib
import reprlib
from typing import TYPE_CHECKING
from unicodedata import category

if TYPE_CHECKING:
    from collections.abc import Iterable


_MOST_CHARACTERS = 2000


class SkipcError(Exception):
    """A mistake the user can mend; the message says what, expected what, do what.

    Names out of files are in it: so it has a bound, and control characters are written out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class BundleError(SkipcError):
    """The directory is not a bundle that can be used."""


class FormatError(BundleError):
    """A file does not have the form that FORMAT.md gives."""


class IntegrityError(BundleError):
    """A file is missing, has the wrong size or hash, or lies outside the bundle."""


class VersionError(BundleError):
    """The format's version is not one this reader knows."""


class BackendError(SkipcError):
    """The backend cannot do what was asked."""


class BackendUnavailableError(BackendError):
    """The backend's library is not installed."""


class StaleEngineError(BackendError):
    """The engines were built for another host: other library version, CPU or GPU."""


class EngineError(BackendError):
    """The backend refused to load or to run an engine."""


class MeterError(SkipcError):
    """A meter is named wrongly, or it cannot be read now."""


class MeterUnavailableError(MeterError):
    """This machine lacks what the meter reads, or the user the right to read it."""


class ModeError(SkipcError):
    """A power mode is named wrongly, cannot be set, or what was in force not be restored."""


class BudgetError(SkipcError):
    """A budget is malformed, or ``strict`` is set and no configuration meets it."""


class ChoiceError(SkipcError):
    """An argument is not one of its choices: a configuration, a thread count, an option."""


class InputError(SkipcError):
    """The caller's arrays do not fit the network's inputs."""


class ClosedError(SkipcError):
    """The engine was used after ``close()``, or in a fork of the process that opened it."""


def printable(text: str, most: int = _MOST_CHARACTERS) -> str:
    """Returns a text, perhaps with names out of a file, that cannot steer or flood a terminal.

    Its lines stay lines; from ``most`` characters on its middle is left out.
    """
    lines = _without_middle(text, most).split("\n")
    return _without_middle("\n".join(map(written_out, lines)), most)


def written_out(text: str) -> str:
    """Returns a text with what cannot be printed, line ends too, written out as in Python."""
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or category(letter) == "Zs"  # a space of some width
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _without_middle(text: str, most: int) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} [...] {text[-half:]}"


def reason_of(cause: BaseException) -> str:
    """Returns what an exception says, or its name where it says nothing."""
    return str(cause).strip() or type(cause).__name__


def choices_text(word: str, choices: Iterable[str]) -> str:
    """Returns the tail of an error message that lists what was available, cut at ten.

    ``word`` is what the user wrote, for the nearest match.
    """
    # Of names that somebody made up to be long, comparing would take minutes.
    names = sorted(name if len(name) <= 80 else f"{name[:77]}..." for name in choices)
    if not names:
        return "None is available."
    listed = ", ".join(repr(name) for name in names[:10])
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    near = difflib.get_close_matches(word[:80], names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Available: {listed}{more}."


def shown(value: object) -> str:
    """Returns a value for an error message: bounded, however deep or long it is."""
    text = reprlib.repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:57]}..."


def sentence(text: str) -> str:
    """Returns a reason, or a library's message, as a sentence that another may follow."""
    told = text.rstrip()
    return told if not told or told[-1] in ".!?:" else f"{told}."


def install_text(extra: str) -> str:
    """Returns what installs an extra of ``pyproject.toml``; skipc is in no package index."""
    return f"pip install '.[{extra}]', from a clone of skipc"
