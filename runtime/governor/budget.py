"""What the caller grants."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Real
from statistics import NormalDist

from ..errors import BudgetError, shown

DEFAULT_WINDOW_S = 10.0
LEAST, MOST = 1e-9, 1e15
"""No limit lies outside of these, and no time or energy above: sums of such stay finite."""

_UNITS = {
    "latency_ms": "milliseconds",
    "average_latency_ms": "milliseconds",
    "deadline_ms": "milliseconds",
    "energy_mj": "millijoules per inference",
    "power_w": "watts",
    "window_s": "seconds",
    "energy_j": "joules",
    "horizon_s": "seconds",
}
_LIMITS = (
    *("latency_ms", "average_latency_ms", "energy_mj", "power_w", "window_s", "energy_j"),
    "horizon_s",
)
_NORMAL = NormalDist()


def checked_budget(budget: object) -> Budget:
    """Returns ``budget``, or the one that grants everything for None.

    Raises:
        BudgetError: It is something else.
    """
    if budget is None:
        return Budget()
    if not isinstance(budget, Budget):
        raise BudgetError(
            f"budget={shown(budget)} is not a Budget. Expected Budget(latency_ms=...) or None."
        )
    return budget


@dataclass(frozen=True, slots=True)
class Budget:
    """What calls may cost. ``Budget()`` grants everything; the tightest of several wins.

    Attributes:
        latency_ms: The longest that a call may take, in milliseconds; None for no limit.
        quantile: The share of calls that stay within ``latency_ms``.
        energy_mj: Energy of an inference, in millijoules, on average; what the device takes
            between calls is not counted. None for no limit.
        power_w: Power of everything that the meter covers, in watts, averaged over
            ``window_s``; None for no limit.
        window_s: How long ``power_w`` may be saved up or overdrawn, in seconds; None with
            ``power_w`` means 10 s.
        energy_j: Energy that has to last for ``horizon_s``, in joules: a battery. It is
            counted from the first call under this budget.
        horizon_s: See ``energy_j``; afterwards ``energy_j`` limits nothing.
        min_accuracy: Configurations below it do not run, whatever that costs, unless every
            other one failed or hangs; in the unit of the front's ``accuracy``.
        hard: Whether a route of several stages stops where its next stage is predicted to end
            too late, and answers with what it has; a router names nothing that would. It then
            fits if its first answer does.
        average_latency_ms: What a call of the typical sizes may take on average, in
            milliseconds; other sizes count in proportion. Routers are met by moving their
            bias. None for no limit; not beside a limit of energy or power.

    Raises:
        BudgetError: A value is not a positive, finite number such as a device may take,
            ``quantile`` is not between 0.5 and 1, or one of a pair is missing.
    """

    latency_ms: float | None = None
    quantile: float = 0.99
    energy_mj: float | None = None
    power_w: float | None = None
    window_s: float | None = None
    energy_j: float | None = None
    horizon_s: float | None = None
    min_accuracy: float | None = None
    hard: bool = False
    average_latency_ms: float | None = None
    deviations: float = field(init=False, repr=False, compare=False)
    """The quantile in standard deviations of a normal distribution."""
    has_average: bool = field(init=False, repr=False, compare=False)
    """Whether something is limited on average, which is met by mixing."""
    is_timed: bool = field(init=False, repr=False, compare=False)
    """Whether such a limit is of energy over time."""

    def __post_init__(self) -> None:
        for name in _LIMITS:
            object.__setattr__(self, name, _positive(name, getattr(self, name)))
        quantile = _number("quantile", self.quantile, "a share of calls, such as 0.99")
        if not 0.5 <= quantile < 1:
            raise BudgetError(
                f"quantile={self.quantile!r} is not a share of calls that a latency can be"
                " predicted for. Expected 0.5 or more and less than 1, such as 0.99."
            )
        object.__setattr__(self, "quantile", quantile)
        checked_hard(self.hard)
        self._check_floor()
        self._check_pairs()
        object.__setattr__(self, "deviations", _NORMAL.inv_cdf(quantile))
        given = any(limit is not None for limit in self.averages)
        object.__setattr__(self, "has_average", given)
        timed = self.power_w is not None or self.energy_j is not None
        object.__setattr__(self, "is_timed", timed)

    def _check_floor(self) -> None:
        if self.min_accuracy is None:
            return
        floor = _number("min_accuracy", self.min_accuracy, "an accuracy as in the front")
        if not math.isfinite(floor):
            raise BudgetError(
                f"min_accuracy={self.min_accuracy!r} is not an accuracy. Expected a finite"
                " number, as in the front."
            )
        object.__setattr__(self, "min_accuracy", floor)

    def _check_pairs(self) -> None:
        if self.window_s is not None and self.power_w is None:
            raise BudgetError(
                f"window_s={self.window_s:g} says over how long power_w is averaged, which is"
                " missing. Expected Budget(power_w=..., window_s=...)."
            )
        if (self.energy_j is None) != (self.horizon_s is None):
            raise BudgetError(
                f"energy_j={self.energy_j!r} and horizon_s={self.horizon_s!r} belong together:"
                " how much energy, and how long it has to last. Expected"
                " Budget(energy_j=..., horizon_s=...)."
            )
        others = [name for name in ("energy_mj", "power_w", "energy_j") if getattr(self, name)]
        if self.average_latency_ms is not None and others:
            raise BudgetError(
                f"average_latency_ms={self.average_latency_ms:g} and {others[0]}: what one"
                " saves the other does not grant. Give one of them."
            )
        if self.power_w is not None and self.window_s is None:
            object.__setattr__(self, "window_s", DEFAULT_WINDOW_S)

    @property
    def averages(self) -> tuple[float | None, ...]:
        """The limits that are met on average: equal where two budgets grant the same."""
        return (
            *(self.energy_mj, self.power_w, self.window_s, self.energy_j, self.horizon_s),
            self.average_latency_ms,
        )


def checked_hard(hard: object) -> bool:
    """Returns whether a limit is hard; ``BudgetError`` for all but True and False."""
    if not isinstance(hard, bool):
        raise BudgetError(f"hard={hard!r}: expected True or False.")
    return hard


def checked_deadline_ms(deadline_ms: object) -> float | None:
    """Returns the deadline of one call in milliseconds; None for None.

    Raises:
        BudgetError: It is not a positive, finite number of milliseconds that pass.
    """
    return _positive("deadline_ms", deadline_ms)


def _positive(name: str, given: object) -> float | None:
    if given is None:
        return None
    expected = f"{_UNITS[name]}, such as {name}=12.5, or None for no limit"
    number = _number(name, given, expected)
    if number <= 0 or not math.isfinite(number):
        raise BudgetError(
            f"{name}={given!r} is not a limit that can be met. Expected a positive, finite"
            f" number of {expected}."
        )
    if not LEAST <= number <= MOST:
        raise BudgetError(
            f"{name}={given!r} is beyond what any device takes. Expected {LEAST:g} to {MOST:g}"
            f" {expected}."
        )
    return number


def _number(name: str, given: object, expected: str) -> float:
    if isinstance(given, bool) or not isinstance(given, Real):
        raise BudgetError(f"{name}={shown(given)} is not a number. Expected {expected}.")
    try:
        return float(given)
    except OverflowError:
        return math.inf
