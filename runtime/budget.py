"""What the caller grants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from .errors import BudgetError


def checked_budget(budget: object) -> Budget:
    """Returns ``budget``, or the one that grants everything for None.

    Raises:
        BudgetError: It is something else.
    """
    if budget is None:
        return Budget()
    if not isinstance(budget, Budget):
        raise BudgetError(
            f"budget={budget!r} is not a Budget. Expected Budget(latency_ms=...) or None."
        )
    return budget


@dataclass(frozen=True, slots=True)
class Budget:
    """What one call may cost. ``Budget()`` grants everything.

    Attributes:
        latency_ms: The longest a call may take, in milliseconds; None for no limit.

    Raises:
        BudgetError: ``latency_ms`` is not a positive, finite number.
    """

    latency_ms: float | None = None

    def __post_init__(self) -> None:
        given: object = self.latency_ms
        if given is None:
            return
        if isinstance(given, bool) or not isinstance(given, Real):
            raise BudgetError(
                f"latency_ms={given!r} is not a number. Expected milliseconds, such as"
                " Budget(latency_ms=12.5), or None for no limit."
            )
        latency_ms = float(given)
        if not math.isfinite(latency_ms) or latency_ms <= 0:
            raise BudgetError(
                f"latency_ms={given!r} is not a latency that can be met. Expected a positive,"
                " finite number of milliseconds, or None for no limit."
            )
        object.__setattr__(self, "latency_ms", latency_ms)
