"""Which configuration runs, and why; and up to which one the latency budget admits.

The ceiling has a hysteresis, so that it does not flap. Down at once, up slowly: a
configuration that no longer fits is left with the next call; one that fits again is admitted
only with a margin and after a dwell. The dwell doubles each time that what was admitted had to
be left again soon, and starts small again when it lasted. There is no dwell where the device
itself has become slower or faster at once since, as beside a process that comes and goes:
climbing then costs one late call when it slows again, which may be as often as
``LATE_SHARES`` of what the quantile lets be late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

CLIMB_MARGIN = 0.015
"""Logarithm of how far below the budget a prediction must be to be admitted."""
LATE_SHARES = 4.0
SHORTEST_DWELL_S = 0.5
LONGEST_DWELL_S = 60.0
SOON_DWELLS = 4.0


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most accurate that the latency budget admits.

    Attributes:
        limit_ms: The budget that it belongs to; another one starts anew.
        rank: The rank up to which configurations are admitted.
        climb_from_s: When more may be admitted.
        climbed_s: When more was admitted last.
        dwell_s: How long it waits after the next step down.
        climbed_at: After how many calls more was admitted last.
        fell_at: After how many calls less was admitted last.
    """

    limit_ms: float = math.nan
    rank: float = math.inf
    climb_from_s: float = 0.0
    climbed_s: float = -math.inf
    dwell_s: float = SHORTEST_DWELL_S
    climbed_at: float = -math.inf
    fell_at: float = math.inf

    def may_rise(self, now_s: float, observed: int, shifted: int, quantile: float) -> bool:
        """Tells whether more may be admitted, once it fits with a margin.

        ``observed`` calls were seen so far, ``shifted`` when the device changed at once last.
        """
        if now_s >= self.climb_from_s:
            return True
        seldom = (observed - self.climbed_at) * LATE_SHARES * (1 - quantile) >= 1
        return seldom and shifted > self.fell_at


def ceiling_after(
    ceiling: Ceiling, limit_ms: float, rank: float, now_s: float, observed: int
) -> Ceiling:
    """Returns the ceiling after a decision that admitted up to ``rank``."""
    if limit_ms != ceiling.limit_ms:
        return Ceiling(limit_ms, rank, now_s)
    if rank == ceiling.rank:
        return ceiling
    if rank > ceiling.rank:
        from_s = now_s + SHORTEST_DWELL_S
        return Ceiling(limit_ms, rank, from_s, now_s, ceiling.dwell_s, observed)
    soon = now_s - ceiling.climbed_s < SOON_DWELLS * ceiling.dwell_s
    dwell_s = min(2 * ceiling.dwell_s, LONGEST_DWELL_S) if soon else SHORTEST_DWELL_S
    climbed = ceiling.climbed_s, dwell_s, ceiling.climbed_at
    return Ceiling(limit_ms, rank, now_s + dwell_s, *climbed, observed)


_UNITS = {
    "latency": "ms",
    "average latency": "ms",
    "energy": "mJ",
    "power": "W",
    "battery": "W",
    "accuracy": "",
}
"""The budgets that can bind, and the unit of each one's limit."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Which configuration runs, and why.

    Attributes:
        configuration: Its name.
        predicted_ms: The latency that it is expected to stay within, in as many calls as
            the budget's quantile says.
        feasible: Whether the budget is expected to be met.
        binding: The budget that keeps something more accurate from running: ``latency``,
            ``average latency``, ``energy``, ``power``, ``battery`` or ``accuracy``; empty if
            none does.
        limit: What that budget grants, in milliseconds, millijoules per call or watts.
        predicted_mj: The energy that it is expected to take; 0 where nothing is known.
        fitting: How many configurations fit the latency budget.
        configurations: How many there are to choose from.
        partner: What it alternates with to meet an average; empty if it does not.
        ceiling: The rank up to which the latency budget admits.
        pinned: Whether the caller had chosen.
        waiting: How many more accurate ones fit, but were left lately and are admitted again
            only when that has lasted for a while.
        typical_ms: Its median latency, where nothing fits the latency budget; else 0.
        kept: The share of its calls that is expected to be within it all the same.
        note: What else is to be said, as a sentence or its beginning.
        loading: Whether an engine is loaded meanwhile, which the call waits for or runs
            beside: its latency then says nothing about the configuration.
        bias: What its router is moved to; None for where it is.
        mode: The power mode that it was decided for; empty where none is chosen.
    """

    configuration: str
    predicted_ms: float
    feasible: bool
    binding: str = ""
    limit: float = 0.0
    predicted_mj: float = 0.0
    fitting: int = 0
    configurations: int = 0
    partner: str = ""
    ceiling: float = 0.0
    pinned: bool = False
    waiting: int = 0
    typical_ms: float = 0.0
    kept: float = 0.0
    note: str = ""
    loading: bool = False
    bias: float | None = None
    mode: str = ""

    def times(self, factor: float) -> Decision:
        """Returns the decision of a call that takes so much longer than a typical one."""
        limit = self.limit * factor if self.binding == "latency" else self.limit
        return replace(
            self,
            predicted_ms=self.predicted_ms * factor,
            limit=limit,
            predicted_mj=self.predicted_mj * factor,
            typical_ms=self.typical_ms * factor,
        )

    @property
    def reason(self) -> str:
        """Why, as a sentence."""
        return f"{self.note} {self._choice()}" if self.note else self._choice()

    def _choice(self) -> str:
        name = repr(self.configuration)
        predicted = f"{self.predicted_ms:.3g} ms predicted"
        if self.pinned:
            return f"{name} is pinned: {predicted}."
        limit = f"{self.limit:.4g} {_UNITS[self.binding]}" if self.binding else ""
        if self.binding == "latency":
            if not self.feasible:
                kept = f"{100 * self.kept:.3g} % of its calls are expected within it, "
                return (
                    f"nothing fits {limit} as surely as asked for; {name} comes closest:"
                    f" {kept if self.kept else ''}{self.typical_ms:.3g} ms is typical,"
                    f" {predicted}."
                )
            of = f"{self.fitting} of {self.configurations}"
            if self.waiting:
                return (
                    f"{name} is the best of the {of} that fit {limit}, but for"
                    f" {self.waiting} that must fit for a while longer: {predicted}."
                )
            return f"{name} is the best of the {of} that fit {limit}: {predicted}."
        if self.binding == "accuracy":
            return (
                f"nothing reaches the accuracy {self.limit:.4g} that is asked for; {name} is"
                " the most accurate."
            )
        if self.binding:
            what = f"the {self.binding} budget of {limit}"
            if not self.feasible:
                least = f"{self.predicted_mj:.3g} mJ predicted"
                if self.binding == "average latency":
                    least = f"{self.typical_ms:.3g} ms on average"
                return f"nothing meets {what}; {name} takes the least, {least}."
            if self.bias is not None:
                return (
                    f"{name} meets {what} with its router's bias at {self.bias:.3g}:"
                    f" {predicted}."
                )
            if self.partner:
                return f"{name} alternates with {self.partner!r} to meet {what}: {predicted}."
            return f"{name} is the best that meets {what}: {predicted}."
        return f"{name} is the best configuration, and no budget is in its way: {predicted}."
