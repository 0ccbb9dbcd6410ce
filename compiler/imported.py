"""Functions of the user's own, named as ``PKG.MODULE:FUNCTION`` on the command line."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Callable


def function_of(option: str, spec: str, error: type[Exception]) -> Callable[..., object]:
    """Returns the function that ``spec`` names; imports its module.

    The current directory is importable, as for ``python -m``.

    Args:
        option: The option that ``spec`` was given to, for messages.
        spec: ``PKG.MODULE:FUNCTION``.
        error: What to raise.

    Raises:
        Exception: Of type ``error``: there is no such function, or its module fails.
    """
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise error(f"{option} {spec!r}: write it as PKG.MODULE:FUNCTION.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as cause:
        raise error(
            f"{option} {spec!r}: no module named {cause.name!r}. It must be importable from"
            f" {here} or be installed."
        ) from cause
    except Exception as cause:
        raise error(
            f"{option} {spec!r}: importing it failed{place_of(cause)}: {cause}"
        ) from cause
    found = getattr(module, name, None)
    if not callable(found):
        names = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise error(f"{option} {spec!r}: no function {name!r}. {choices_text(name, names)}")
    function: Callable[..., object] = found
    return function


def place_of(cause: BaseException) -> str:
    """Returns where an exception was raised, as `` (file.py, line 3)``; may be empty."""
    frames = traceback.extract_tb(cause.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
