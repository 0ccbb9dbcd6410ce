"""What the commands print: tables, steps and JSON.

Names, and messages of libraries, come from files that anybody may have made. Whatever is
printed for people passes through here, where it cannot command a terminal, nor flood it.
"""

from __future__ import annotations

import json
import math
import os
import textwrap
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from skipc.runtime.errors import printable, written_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text


_UNWRAPPED = 10_000
_LEAST_WIDTH = 8
_WORTH_SAYING_S = 2.0
_LONGEST_CELL = 400


class _PlainConsole(Console):
    """Every text that it prints, in whatever, is made by ``render_str``."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def console(stderr: bool = False) -> Console:
    """Returns a console for texts from anywhere: no markup, nothing highlighted.

    It is as wide as the terminal or as ``COLUMNS`` says. Piped without that, no line is
    wrapped, so that other programs can read them. With ``NO_COLOR`` nothing is bold or dim,
    either.
    """
    made = _PlainConsole(
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


class Rows(Table):
    """A table; a name with a line end in it stays in its row."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Adds a row with a cell for each column."""
        super().add_row(*(short(cell, _LONGEST_CELL) for cell in cells), **options)


def table(*columns: str, header: bool = True) -> Rows:
    """Returns an empty table; columns whose name starts with ``>`` are right-aligned.

    Where the console is too narrow the left-aligned columns are folded, numbers never.
    """
    rows = Rows(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=header)
    for name in columns:
        number = name.startswith(">")
        rows.add_column(
            name.removeprefix(">"),
            justify="right" if number else "left",
            no_wrap=number,
            min_width=None if number else min(len(name), _LEAST_WIDTH),
            overflow="fold",
        )
    return rows


def facts(*lines: tuple[str, str]) -> Rows:
    """Returns an indented list of labels and texts; lines without a text are left out."""
    rows = table("", "", header=False)
    for label, text in lines:
        if text:
            rows.add_row(f"  {label}", text)
    return rows


def tell(text: str) -> None:
    """Prints a line on standard error."""
    click.echo(printable(text), err=True)


def fail(text: str) -> None:
    """Prints an error on standard error."""
    # Click knows no NO_COLOR (https://no-color.org); None is its own choice.
    color = False if os.environ.get("NO_COLOR") else None
    mark = click.style("Error:", fg="red", bold=True)
    click.echo(f"{mark} {printable(text)}", err=True, color=color)


def print_json(value: object) -> None:
    """Prints ``value`` as JSON on standard output; NaN and infinity become ``null``."""
    click.echo(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Steps:
    """Tells what is being done, on standard error: a line for each step."""

    def __init__(self) -> None:
        self._step, self._tenths = "", 0

    def __call__(self, text: str) -> None:
        """Begins the step ``text``."""
        self._step, self._tenths = text, 0
        tell(f"{text} ...")

    def detail(self, text: str) -> None:
        """Says which part of the step is being done; not shown where piped."""

    def advance(self, done: int, total: int, text: str = "") -> None:
        """Says how much of the step is done; where piped, at each tenth."""
        if 10 * done // total > self._tenths:
            self._tenths = 10 * done // total
            tell(f"{self._step}: {_amount(done, total, text)} ...")

    def note(self, text: str) -> None:
        """Prints a line that stays."""
        tell(text)


class _Spinner(Steps):
    """Shows them in one line that turns."""

    def __init__(self, bar: Progress) -> None:
        self._bar, self._task = bar, bar.add_task("starting", total=None)

    def __call__(self, text: str) -> None:
        self._step = text
        self._show(text)

    def detail(self, text: str) -> None:
        self._show(f"{self._step}: {text}")

    def advance(self, done: int, total: int, text: str = "") -> None:
        self._show(f"{self._step}: {_amount(done, total, text)}")

    def note(self, text: str) -> None:
        self._bar.console.print(text, soft_wrap=True)

    def _show(self, text: str) -> None:
        self._bar.update(self._task, description=short(text, _LONGEST_CELL))


@contextmanager
def progress() -> Iterator[Steps]:
    """Yields what the steps are told to.

    On a terminal one line with a spinner and the time; elsewhere one line per step.
    """
    out = console(stderr=True)
    if not out.is_terminal or out.is_dumb_terminal:
        yield Steps()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    start_s = time.monotonic()
    with Progress(*columns, console=out, transient=True) as bar:
        yield _Spinner(bar)
    taken_s = time.monotonic() - start_s
    if taken_s >= _WORTH_SAYING_S:
        out.print(f"done in {taken_s:.0f} s", style="dim")


def _amount(done: int, total: int, text: str) -> str:
    return f"{done} of {total}{f', {text}' if text else ''}"


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


def short(text: str, most: int) -> str:
    """Returns ``text`` on one line (see ``written_out``), cut to ``most`` characters."""
    told = written_out(text[: most + 1])
    return told if len(told) <= most else f"{told[: most - 1]}…"
