"""Flags of ``trtexec`` that choose how a GPU is called; other backends refuse them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from skipc.runtime.backends.phases import Wait, Way, phased_backend
from skipc.runtime.errors import ChoiceError

if TYPE_CHECKING:
    from skipc.runtime.backends import Backend

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class WayFlag:
    """A flag of ``trtexec`` that the backends on a GPU honour.

    Attributes:
        flag: The flag, with its dashes.
        help: What it does.
        reason: Why other backends refuse it.
        opposite: The flag that says the contrary; empty where none does.
    """

    flag: str
    help: str
    reason: str
    opposite: str = ""

    @property
    def parameter(self) -> str:
        """The name of its parameter."""
        return self.flag.removeprefix("--")


_NO_GRAPH = "there are no CUDA graphs"
_NO_TRANSFERS = "inputs and outputs lie where it computes, so that nothing is transferred"
_NO_WAIT = "a call is over when it returns, with no device to wait for"

FLAGS: tuple[WayFlag, ...] = (
    WayFlag(
        "--useCudaGraph",
        "On a GPU: launch captured CUDA graphs.  [default]",
        _NO_GRAPH,
        "--noCudaGraph",
    ),
    WayFlag("--noCudaGraph", "On a GPU: enqueue each call's work anew.", _NO_GRAPH),
    WayFlag(
        "--includeDataTransfers",
        "On a GPU: calls copy their inputs in and outputs out.  [default]",
        _NO_TRANSFERS,
        "--noDataTransfers",
    ),
    WayFlag(
        "--noDataTransfers",
        "On a GPU: inputs and outputs stay on the device.",
        _NO_TRANSFERS,
    ),
    WayFlag(
        "--useSpinWait",
        "On a GPU: wait by asking without pause.  [default: as the driver decides]",
        _NO_WAIT,
        "--noSpinWait",
    ),
    WayFlag("--noSpinWait", "On a GPU: wait asleep.", _NO_WAIT),
    WayFlag(
        "--timeRefit",
        "On a GPU: show what reading plans and refitting them took of the load.",
        "there are no plans that could be refitted",
    ),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags that were given.

    Attributes:
        flags: Each as it was written.
    """

    flags: frozenset[str]

    @property
    def way(self) -> Way:
        """How calls are to be made."""
        wait = Wait.DRIVER
        if "--useSpinWait" in self.flags:
            wait = Wait.SPIN
        elif "--noSpinWait" in self.flags:
            wait = Wait.BLOCK
        return Way(
            graph="--noCudaGraph" not in self.flags,
            transfers="--noDataTransfers" not in self.flags,
            wait=wait,
        )

    @property
    def refit(self) -> bool:
        """Whether the parts of a load are to be shown."""
        return "--timeRefit" in self.flags

    @property
    def of_calls(self) -> tuple[str, ...]:
        """The flags that say something of calls, in the order of ``FLAGS``."""
        known = (one.flag for one in FLAGS)
        return tuple(f for f in known if f in self.flags and f != "--timeRefit")


def way_options(function: F) -> F:
    """Adds the flags; ``function`` is called with ``asked``, an ``Asked``, instead of them.

    Raises:
        click.UsageError: Two flags contradict one another.
    """

    @functools.wraps(function)
    def with_asked(*args: Any, **values: Any) -> Any:
        given = frozenset(one.flag for one in FLAGS if values.pop(one.parameter))
        for one in FLAGS:
            if one.opposite and {one.flag, one.opposite} <= given:
                raise click.UsageError(
                    f"{one.flag} and {one.opposite} contradict one another. Leave one out."
                )
        return function(*args, asked=Asked(given), **values)

    made: Any = with_asked
    for one in reversed(FLAGS):
        made = click.option(one.flag, one.parameter, is_flag=True, help=one.help)(made)
    return made  # type: ignore[no-any-return]


def check_asked(asked: Asked, backend: Backend) -> None:
    """Raises if ``backend`` cannot honour what was asked.

    Raises:
        ChoiceError: It cannot; the message says why.
    """
    if phased_backend(backend) is not None:
        return
    for one in FLAGS:
        if one.flag in asked.flags:
            raise ChoiceError(
                f"{one.flag} is for the backends 'tensorrt' and 'tensorrt-rtx'. With"
                f" {backend.name!r} {one.reason}. Leave it out."
            )
