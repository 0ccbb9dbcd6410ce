"""What the caller asks of every call: a budget, kept strictly or not; one configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ..errors import BudgetError, ChoiceError, choices_text, sentence
from ..governor.budget import checked_budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..governor import Decision, OperatingPoint
    from ..governor.budget import Budget


@final
class Orders:
    """The budget and the pin; what cannot be followed is refused, and the old one stays.

    ``energy_known`` tells whether anything is known of the energy that calls take.

    Raises:
        BudgetError: No configuration can meet ``budget``, whatever is learnt.
    """

    def __init__(
        self,
        points: Mapping[str, OperatingPoint],
        ranked_by: str,
        energy_known: bool,
        budget: Budget | None,
        strict: bool = False,
    ) -> None:
        self._points = points
        self.ranked_by = ranked_by
        self._energy_known = energy_known
        self.strict = strict
        self.pinned: str | None = None
        self.budget = budget

    @property
    def budget(self) -> Budget:
        """What calls may take; setting it takes effect from the next call on."""
        return self._budget

    @budget.setter
    def budget(self, given: Budget | None) -> None:
        budget = checked_budget(given)
        self._check_possible(budget)
        self._budget = budget

    def add(self, point: OperatingPoint) -> None:
        """Takes one more configuration, which may be pinned."""
        self._points = {**self._points, point.configuration: point}

    def pin(self, configuration: str | None) -> None:
        """Pins a configuration, which must be there; None unpins it."""
        if configuration is not None:
            self.check_name(configuration)
        self.pinned = configuration

    def check_name(self, configuration: str) -> None:
        """Raises ``ChoiceError`` if there is no such configuration."""
        if configuration not in self._points:
            raise ChoiceError(
                f"there is no configuration {configuration!r}."
                f" {choices_text(str(configuration), self._points)}"
            )

    def check_feasible(self, decision: Decision) -> None:
        """Raises ``BudgetError`` where nothing is predicted to fit, and that is refused."""
        if self.strict and not decision.feasible:
            raise BudgetError(
                f"no call within the budget: {sentence(decision.reason)} Grant more, or open"
                " the engine without strict."
            )

    def _check_possible(self, budget: Budget) -> None:
        """Raises ``BudgetError`` where a budget asks for what cannot be judged at all."""
        if budget.min_accuracy is not None:
            if self.ranked_by != "accuracy":
                raise BudgetError(
                    f"min_accuracy={budget.min_accuracy:g}: the accuracies of the"
                    " configurations are not known. Give each one in front.json ('metrics':"
                    " {'accuracy': ...}) and build again."
                )
            best = max(self._points.values(), key=lambda point: point.rank)
            if best.rank < budget.min_accuracy:
                raise BudgetError(
                    f"min_accuracy={budget.min_accuracy:g} is more than any configuration has."
                    f" The most accurate is {best.configuration!r}: {best.rank:g}."
                )
        of_energy = any((budget.energy_mj, budget.power_w, budget.energy_j))
        if of_energy and not self._energy_known:
            raise BudgetError(
                "energy and power cannot be kept while neither is known: give each"
                " configuration an 'energy_mj' in front.json ('metrics') and build again, or"
                " open the engine with meter='auto' (`skipc meters` lists what this machine"
                " has)."
            )
