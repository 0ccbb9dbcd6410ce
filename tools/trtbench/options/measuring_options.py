"""The options of ``trtbench`` that say what is measured, and where the results go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from skipc.tools.options import PATH
from skipc.tools.trtbench.running.loop import MOST_ROUNDS
from skipc.tools.trtbench.running.shapes import ShapesType

F = TypeVar("F", bound=Callable[..., Any])

_LONGEST_S = 86_400.0
_MOST_STREAMS = 256


class PercentilesType(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions
    """Percentiles, ``90,95,99``."""

    name = "percentiles"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Returns the numbers that ``value`` names, each once."""
        if isinstance(value, tuple):
            return value
        found: dict[float, None] = {}
        for word in str(value).split(","):
            try:
                percent = float(word)
            except ValueError:
                percent = -1.0
            if not 0 <= percent <= 100:
                self.fail(
                    f"{word.strip()!r} is no percentile: expected numbers from 0 to 100, as in"
                    " 90,95,99.",
                    param,
                    ctx,
                )
            found[percent] = None
        return tuple(found)


def measuring_options(function: F) -> F:
    """Adds the options."""
    decorators = (
        click.option(
            "--warmUp",
            "warm_up_ms",
            type=click.FloatRange(0, _LONGEST_S * 1000),
            default=200,
            show_default=True,
            help="Milliseconds of calls of each configuration that are dropped first.",
        ),
        click.option(
            "--duration",
            "duration_s",
            type=click.FloatRange(0, _LONGEST_S),
            default=3,
            show_default=True,
            help="Seconds of calls of each configuration, at least.",
        ),
        click.option(
            "--iterations",
            type=click.IntRange(1, MOST_ROUNDS),
            default=10,
            show_default=True,
            help="Calls of each configuration, at least.",
        ),
        click.option(
            "--infStreams",
            "streams",
            type=click.IntRange(1, _MOST_STREAMS),
            default=1,
            show_default=True,
            help="Calls of a configuration at the same time.",
        ),
        click.option(
            "--avgRuns",
            "average_runs",
            type=click.IntRange(1),
            default=10,
            show_default=True,
            help="Calls in a row that are averaged; the lowest and highest average are shown.",
        ),
        click.option(
            "--percentile",
            "percents",
            type=PercentilesType(),
            default="90,95,99",
            show_default=True,
            help="Percentiles to show; 0 is the fastest call, 100 the slowest.",
        ),
        click.option(
            "--loadInputs",
            "inputs",
            type=PATH,
            help="Inputs: a .npy, or a .npz by input name."
            "  [default: the bundle's golden inputs]",
        ),
        click.option(
            "--shapes",
            type=ShapesType(),
            metavar="[NAME:]1x3x224x224",
            help="Golden inputs of this batch, repeated or cut; several with commas.",
        ),
        click.option(
            "--exportTimes", "times", type=PATH, help="Write every call's times here."
        ),
        click.option(
            "--dumpProfile",
            "dump_profile",
            is_flag=True,
            help="Print the layers' times, found in a run of its own.",
        ),
        click.option(
            "--exportProfile", "profile", type=PATH, help="Write the layers' times here."
        ),
        click.option(
            "--timeDeserialize",
            "loading_only",
            is_flag=True,
            help="Time loading and the first call.",
        ),
        click.option(
            "--configurations",
            metavar="NAMES",
            help="Only these, e.g. full,fast.  [default: all]",
        ),
        click.option("--target", help="Whose engines.  [default: the first by name that fit]"),
        click.option("--threads", type=click.IntRange(min=1), help="Threads of a call."),
        click.option(
            "--meter", metavar="SPEC", help="Measure energy, too: see `skipc meters`."
        ),
        click.option(
            "--update",
            is_flag=True,
            help="Write the results into BUNDLE as this device's table, which the governor"
            " uses.",
        ),
        click.option("--json", "as_json", type=PATH, help="Write everything here as JSON."),
        click.option(
            "--compare",
            "compared",
            type=PATH,
            nargs=2,
            metavar="OLD NEW",
            help="Compare two files of --json; exit code 1 if something became slower.",
        ),
        click.option(
            "--margin",
            "margin_percent",
            type=click.FloatRange(0, 1000),
            default=3,
            show_default=True,
            help="With --compare: percent that two measurements of one thing may differ by.",
        ),
    )
    for decorate in reversed(decorators):
        function = decorate(function)
    return function
