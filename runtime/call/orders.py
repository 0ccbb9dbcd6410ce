"""What the caller asks of every call: a budget, and perhaps one configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ..errors import ChoiceError, choices_text
from ..governor.budget import check_possible, checked_budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..governor import OperatingPoint
    from ..governor.budget import Budget


@final
class Orders:
    """The budget and the pin; what cannot be followed is refused, and the old one stays.

    Args:
        points: What the governor knows of each configuration.
        ranked_by: What the points' rank is: ``accuracy`` or something else.
        energy_known: Whether anything is known of the energy that calls take.
        budget: What calls may take; None for no limit.

    Attributes:
        pinned: The configuration that every call runs; None where the governor chooses.

    Raises:
        BudgetError: No configuration can meet ``budget``, whatever is learnt.
    """

    def __init__(
        self,
        points: Mapping[str, OperatingPoint],
        ranked_by: str,
        energy_known: bool,
        budget: Budget | None,
    ) -> None:
        self._points = points
        self._ranked_by = ranked_by
        self._energy_known = energy_known
        self.pinned: str | None = None
        self.budget = budget

    @property
    def budget(self) -> Budget:
        """What calls may take."""
        return self._budget

    @budget.setter
    def budget(self, given: Budget | None) -> None:
        budget = checked_budget(given)
        points = tuple(self._points.values())
        check_possible(budget, points, self._ranked_by, self._energy_known)
        self._budget = budget

    def pin(self, configuration: str | None) -> None:
        """Pins a configuration; None unpins it.

        Raises:
            ChoiceError: There is no such configuration.
        """
        if configuration is not None:
            self.check_name(configuration)
        self.pinned = configuration

    def check_name(self, configuration: str) -> None:
        """Checks that there is such a configuration.

        Raises:
            ChoiceError: There is none.
        """
        if configuration not in self._points:
            raise ChoiceError(
                f"there is no configuration {configuration!r}."
                f" {choices_text(str(configuration), self._points)}"
            )
