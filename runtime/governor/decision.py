"""Which configuration runs, and why."""

from __future__ import annotations

from dataclasses import dataclass

UNITS = {"latency": "ms", "energy": "mJ", "power": "W", "battery": "W", "accuracy": ""}
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
            ``energy``, ``power``, ``battery`` or ``accuracy``; empty if none does.
        limit: What that budget grants, in milliseconds, millijoules per call or watts.
        predicted_mj: The energy that it is expected to take; 0 where nothing is known.
        fitting: How many configurations fit the latency budget.
        configurations: How many there are to choose from.
        partner: What it alternates with to meet an average; empty if it does not.
        ceiling: The rank up to which the latency budget admits.
        pinned: Whether the caller had chosen.
        waiting: How many more accurate ones fit, but were left lately and are admitted again
            only when that has lasted for a while.
        note: What else is to be said, as a sentence or its beginning.
        loading: Whether an engine is loaded meanwhile, which the call waits for or runs
            beside: its latency then says nothing about the configuration.
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
    note: str = ""
    loading: bool = False

    @property
    def reason(self) -> str:
        """Why, as a sentence."""
        return f"{self.note} {self._choice()}" if self.note else self._choice()

    def _choice(self) -> str:
        name = repr(self.configuration)
        predicted = f"{self.predicted_ms:.3g} ms predicted"
        if self.pinned:
            return f"{name} is pinned: {predicted}."
        limit = f"{self.limit:.4g} {UNITS[self.binding]}" if self.binding else ""
        if self.binding == "latency":
            if not self.feasible:
                return (
                    f"nothing fits {limit}; {name} is predicted to be the fastest,"
                    f" {self.predicted_ms:.3g} ms."
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
                return (
                    f"nothing meets {what}; {name} takes the least,"
                    f" {self.predicted_mj:.3g} mJ predicted."
                )
            if self.partner:
                return f"{name} alternates with {self.partner!r} to meet {what}: {predicted}."
            return f"{name} is the best that meets {what}: {predicted}."
        return f"{name} is the best configuration, and no budget is in its way: {predicted}."
