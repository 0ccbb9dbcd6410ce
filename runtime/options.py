"""Checks of an engine's options: what is given is what is meant, or it is refused."""

from __future__ import annotations

import math
from numbers import Real

from .errors import ChoiceError

MOST_IDLE_W = 10_000.0
"""What no device draws at rest."""


def finite(given: object) -> float:
    """Returns a finite number as a float; NaN, which no comparison holds for, else.

    Callers give Python's numbers, NumPy's, or something that is none.
    """
    if isinstance(given, bool) or not isinstance(given, Real):
        return math.nan
    try:
        number = float(given)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def checked_flag(name: str, given: object) -> bool:
    """Returns what is True or False.

    Raises ``ChoiceError`` for all else: the text ``"no"`` would count as yes.
    """
    if not isinstance(given, bool):
        raise ChoiceError(f"{name}={given!r}: expected True or False.")
    return given


def checked_count(name: str, given: object) -> int | None:
    """Returns a whole number from 1, or None for None; ``ChoiceError`` for all else."""
    if given is not None and (type(given) is not int or given < 1):
        raise ChoiceError(f"{name}={given!r}: expected a whole number from 1, or None.")
    return given


def checked_hang_ms(given: object) -> float | None:
    """Returns how long a call may take before it is said to hang; None for None.

    Raises ``ChoiceError`` where it is not a finite number of milliseconds above zero.
    """
    if given is None:
        return None
    limit_ms = finite(given)
    if not limit_ms > 0:
        raise ChoiceError(f"hang_ms={given!r}: expected milliseconds above 0, or None.")
    return limit_ms


def checked_idle_w(given: object) -> float | None:
    """Returns what a device draws while nothing runs, in watts; None for None.

    Raises ``ChoiceError`` where no device may draw that at rest.
    """
    if given is None:
        return None
    watts = finite(given)
    if not 0 <= watts <= MOST_IDLE_W:
        raise ChoiceError(
            f"idle_w={given!r}: expected watts from 0 to {MOST_IDLE_W:g}, or None if nobody"
            " measured it."
        )
    return watts
