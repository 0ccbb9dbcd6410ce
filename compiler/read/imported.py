"""Code of the user's own, named as ``PKG.MODULE:NAME`` on the command line."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING

from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Callable


def imported(
    option: str,
    spec: str,
    error: type[Exception],
    forms: str = "Write it as PKG.MODULE:FUNCTION.",
) -> object:
    """Returns what ``spec`` names; imports its module.

    The current directory is importable, as for ``python -m``.

    Args:
        option: The option that ``spec`` was given to, for messages.
        spec: ``PKG.MODULE:NAME``; the name may lead on into classes (``Net.small``).
        error: What to raise.
        forms: A sentence that says what may be written.

    Raises:
        Exception: Of type ``error``: there is no such thing, or its module fails.
    """
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise error(f"{option} {spec!r}: names nothing. {forms}")
    # Left there: the user's code may import its neighbours only when it runs.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as cause:
        missing = cause.name or ""
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise error(
                f"{option} {spec!r}: importing {module_name!r} failed{place_of(cause)}:"
                f" {cause}. Install what it imports."
            ) from cause
        raise error(
            f"{option} {spec!r}: there is no module {missing!r} in the current directory or"
            f" among the installed packages. {forms}"
        ) from cause
    except Exception as cause:
        raise error(
            f"{option} {spec!r}: importing {module_name!r} failed{place_of(cause)}:"
            f" {reason_of(cause)}."
        ) from cause
    for part in name.split("."):
        if not hasattr(found, part):
            known = [n for n in vars(found) if not n.startswith("_")]
            callables = [n for n in known if callable(getattr(found, n))]
            raise error(
                f"{option} {spec!r}: {module_name!r} has no {part!r}."
                f" {choices_text(part, callables)}"
            )
        found = getattr(found, part)
    return found


def function_of(option: str, spec: str, error: type[Exception]) -> Callable[..., object]:
    """Returns the function that ``spec`` names; see ``imported``.

    Raises:
        Exception: Of type ``error``: there is none, or it is no function.
    """
    found = imported(option, spec, error)
    if not callable(found):
        raise error(f"{option} {spec!r}: is {type(found).__name__!r}, expected a function.")
    function: Callable[..., object] = found
    return function


def reason_of(cause: BaseException) -> str:
    """Returns an exception's type and text in one line, cut where it is long."""
    text = " ".join(str(cause).split()).rstrip(".")
    return f"{type(cause).__name__}: {text if len(text) <= 400 else text[:400] + ' ...'}"


def place_of(cause: BaseException) -> str:
    """Returns where user code raised, as `` in file.py, line 3``; may be empty."""
    frames = traceback.extract_tb(cause.__traceback__)
    inner = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
    last = inner[-1] if inner else None
    return f" in {os.path.basename(last.filename)}, line {last.lineno}" if last else ""
