"""What the commands print: tables, steps and JSON."""

from __future__ import annotations

import json
import math
import os
import textwrap
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID


_UNWRAPPED = 10_000
_LEAST_WIDTH = 8
_WORTH_SAYING_S = 2.0


def console(stderr: bool = False) -> Console:
    """Returns a console that prints text as it is: no markup, nothing highlighted.

    It is as wide as the terminal or as ``COLUMNS`` says. Piped without that, no line is
    wrapped, so that other programs can read them. With ``NO_COLOR`` nothing is bold or dim,
    either.
    """
    made = Console(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _UNWRAPPED
    return made


def print_prose(out: Console, text: str) -> None:
    """Prints sentences: wrapped between words, while a word (a path) is never cut."""
    for line in text.split("\n"):
        wrapped = textwrap.fill(
            line, out.width, break_long_words=False, break_on_hyphens=False
        )
        out.print(wrapped, soft_wrap=True)


def table(*columns: str) -> Table:
    """Returns an empty table; columns whose name starts with ``>`` are right-aligned.

    Where the console is too narrow the left-aligned columns are folded, numbers never.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        number = name.startswith(">")
        made.add_column(
            name.removeprefix(">"),
            justify="right" if number else "left",
            no_wrap=number,
            min_width=None if number else min(len(name), _LEAST_WIDTH),
            overflow="fold",
        )
    return made


def print_json(value: object) -> None:
    """Prints ``value`` as JSON on standard output; NaN and infinity become ``null``."""
    click.echo(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Steps(Protocol):
    """Tells what is being done, on standard error."""

    def __call__(self, text: str) -> None:
        """Begins the step ``text``."""
        ...

    def detail(self, text: str) -> None:
        """Says which part of the step is being done; not shown where piped."""
        ...

    def note(self, text: str) -> None:
        """Prints a line that stays."""
        ...


@contextmanager
def progress() -> Iterator[Steps]:
    """Yields what the steps are told to.

    On a terminal one line with a spinner and the time; elsewhere one line per step.
    """
    out = console(stderr=True)
    if not out.is_terminal or out.is_dumb_terminal:
        yield _Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    start_s = time.monotonic()
    with Progress(*columns, console=out, transient=True) as bar:
        yield _Spinner(bar, bar.add_task("starting", total=None))
    taken_s = time.monotonic() - start_s
    if taken_s >= _WORTH_SAYING_S:
        out.print(f"done in {taken_s:.0f} s", style="dim")


class _Lines:
    def __call__(self, text: str) -> None:
        click.echo(f"{text} ...", err=True)

    def detail(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        click.echo(text, err=True)


class _Spinner:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task
        self._step = ""

    def __call__(self, text: str) -> None:
        self._step = text
        self._bar.update(self._task, description=text)

    def detail(self, text: str) -> None:
        self._bar.update(self._task, description=f"{self._step}: {text}")

    def note(self, text: str) -> None:
        self._bar.console.print(text, soft_wrap=True)


def size_text(size_bytes: float) -> str:
    """Returns a size with the unit that suits it, e.g. ``12.3 MB`` (powers of 1000)."""
    return _scaled(size_bytes, ("B", "kB", "MB", "GB"))


def count_text(count: float) -> str:
    """Returns a count with the suffix that suits it, e.g. ``4.1 G``."""
    return _scaled(count, ("", "k", "M", "G")).rstrip()


def plural(count: int, noun: str) -> str:
    """Returns ``1 file``, ``2 files``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    # 999.95 would be rounded to 1000.0: the next unit says it better.
    while round(value, 1 if power else 0) >= 1000 and power < len(units) - 1:
        value /= 1000
        power += 1
    return f"{value:.1f} {units[power]}" if power else f"{value:.0f} {units[0]}"


def shown(text: str) -> str:
    """Returns ``text`` with what cannot be printed (line ends, escapes) written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def short(text: str, most: int) -> str:
    """Returns ``shown(text)``, cut to ``most`` characters."""
    printable = shown(text)
    return printable if len(printable) <= most else f"{printable[: most - 1]}…"
