"""A budget on the command line: ``latency_ms=12,quantile=0.95``."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import click

from skipc.runtime import Budget
from skipc.runtime.errors import BudgetError, choices_text

if TYPE_CHECKING:
    from click import Context, Parameter

KEYS = tuple(field.name for field in fields(Budget) if field.init)


class BudgetType(click.ParamType):  # type: ignore[type-arg]  # click 8.1 has no argument
    """Reads ``key=value,key=value`` with the keys of ``Budget``."""

    name = "budget"

    def get_metavar(self, param: Parameter, ctx: Context | None = None) -> str:
        """Returns how the value is written in ``--help``."""
        return "KEY=VALUE,..."

    def convert(self, value: object, param: Parameter | None, ctx: Context | None) -> Budget:
        """Returns the budget that a text grants."""
        if isinstance(value, Budget):
            return value
        granted: dict[str, float] = {}
        for part in str(value).split(","):
            key, equals, number = (text.strip() for text in part.partition("="))
            if not equals:
                self.fail(f"{part!r} is not key=value, such as latency_ms=12.", param, ctx)
            if key not in KEYS:
                self.fail(f"a budget has no {key!r}. {choices_text(key, KEYS)}", param, ctx)
            if key in granted:
                self.fail(f"{key!r} is given twice.", param, ctx)
            try:
                granted[key] = float(number)
            except ValueError:
                self.fail(f"{key}={number!r} is not a number.", param, ctx)
        try:
            return Budget(**granted)
        except BudgetError as cause:
            self.fail(str(cause), param, ctx)
