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
_BUILD_FLAGS = ("--fp16", "--bf16", "--int8", "--fp8", "--best", "--noTF32", "--stripWeights")
_BUILD_VALUES = (
    *("--minShapes", "--optShapes", "--maxShapes", "--memPoolSize", "--plugins"),
    *("--timingCacheFile", "--builderOptimizationLevel", "--profilingVerbosity"),
    *("--useDLACore", "--avgTiming"),
)
_LOOK = (
    "Outputs are compared by `skipc check`, and `skipc report` shows what a subnet holds."
    " Leave it out."
)
_PROFILE = "--dumpProfile and --exportProfile always run on their own. Leave it out."
_GAPS = "Calls follow one another at once, on every backend. Leave it out."

REFUSED: tuple[Refused, ...] = (
    Refused("--sleepTime", True, _GAPS),
    Refused("--idleTime", True, _GAPS),
    Refused("--onnx", True, _BUILD),
    Refused("--loadEngine", True, _BUILD),
    Refused("--saveEngine", True, _BUILD),
    *(Refused(flag, False, _BUILD) for flag in _BUILD_FLAGS),
    *(Refused(flag, True, _BUILD) for flag in _BUILD_VALUES),
    *(Refused(flag, False, _LOOK) for flag in ("--dumpOutput", "--dumpLayerInfo")),
    *(Refused(flag, True, _LOOK) for flag in ("--exportOutput", "--exportLayerInfo")),
    Refused("--skipInference", False, "To load without measuring there is --timeDeserialize."),
    Refused("--separateProfileRun", False, _PROFILE),
    Refused("--verbose", False, "There is nothing more to tell. Leave it out."),
    Refused("--device", True, "The first device is used; CUDA_VISIBLE_DEVICES chooses it."),
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
