"""Flags of ``trtexec`` that no backend honours: refused with the reason, never ignored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Refused:
    """A flag that is refused.

    Attributes:
        flag: The flag, with its dashes.
        takes_value: Whether ``trtexec`` reads a value after it.
        reason: Why, where it would mean something, what to do.
    """

    flag: str
    takes_value: bool
    reason: str


_BUILD = (
    "This tool takes a bundle, whose engines `skipc build` and `skipc finish` made; the flag"
    " is for trtexec, which builds and runs plans of the backend 'tensorrt'. Leave it out."
)
_GAPS = "Calls follow one another at once, on every backend. Leave it out."

REFUSED: tuple[Refused, ...] = (
    Refused("--sleepTime", True, _GAPS),
    Refused("--idleTime", True, _GAPS),
    Refused("--onnx", True, _BUILD),
    Refused("--loadEngine", True, _BUILD),
    Refused("--saveEngine", True, _BUILD),
)


def refused_options(function: F) -> F:
    """Adds the refused flags, hidden from the help."""
    for refused in reversed(REFUSED):
        function = click.option(
            refused.flag,
            is_flag=not refused.takes_value,
            hidden=True,
            expose_value=False,
            callback=_refuse(refused),
        )(function)
    return function


def _refuse(refused: Refused) -> Callable[[click.Context, click.Parameter, object], None]:
    def callback(context: click.Context, parameter: click.Parameter, value: object) -> None:
        if value is not None and value is not False:
            raise click.UsageError(f"{refused.flag}: {refused.reason}")

    return callback
