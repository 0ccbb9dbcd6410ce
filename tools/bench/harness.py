"""What the parts of the benchmark share: bars, fresh processes, calls that take turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from skipc.compiler.bundle.files import write_json, write_whole

if TYPE_CHECKING:
    from pathlib import Path

Call = Callable[[], object]

_CALL = (
    "import importlib, json, sys; module, name, *words = sys.argv[1:];"
    " print(json.dumps(getattr(importlib.import_module(module), name)(*words)))"
)


_INTRODUCTION = (
    "Written by `make bench`, or by `python -m skipc.tools.bench --network PART --out FOLDER`"
    " for one part of it. Ratios are medians of interleaved pairs in one process;"
    " what each row measures is said in the file of `tools/bench/` that makes it."
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A measurement and its bar.

    Attributes:
        network: What was measured on.
        what: What was measured.
        value: The measurement.
        limit: What it may be at most; None where the figure is only reported.
        unit: ``x`` for a ratio, else the unit.
        note: How the value came about, e.g. the worst configuration.
        least: What it must be at least, where more is better.
    """

    network: str
    what: str
    value: float
    limit: float | None
    unit: str = "x"
    note: str = ""
    least: float | None = None

    @property
    def met(self) -> bool:
        """Whether the value is within the bar."""
        enough = self.least is None or self.value >= self.least
        return enough and (self.limit is None or self.value <= self.limit)

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table: network, what, value, bar, verdict and note."""
        bar = "" if self.limit is None else f"≤ {_text(self.limit, self.unit)}"
        bar = bar if self.least is None else f"≥ {_text(self.least, self.unit)}"
        verdict = "" if not bar else "met" if self.met else "**missed**"
        value = _text(self.value, self.unit)
        return self.network, self.what, value, bar, verdict, self.note


def markdown(bars: list[Bar], machine: str) -> str:
    """Returns the table as Markdown."""
    head = ["# Benchmarks", "", _INTRODUCTION, "", machine, ""]
    head += ["| network | what | measured | bar | | note |", "|---|---|---:|---:|---|---|"]
    rows = (f"| {' | '.join(bar.cells)} |" for bar in bars)
    return "\n".join([*head, *rows, ""])


def write(bars: list[Bar], machine: str, folder: Path) -> None:
    """Writes ``results.md`` and ``results.json`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "results.md", markdown(bars, machine).encode())
    documents = [{**asdict(bar), "met": bar.met} for bar in bars]
    write_json(folder / "results.json", {"machine": machine, "bars": documents})


def _text(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"
    return f"{value:.2g} {unit}" if value < 1 else f"{value:.1f} {unit}"


@dataclass(frozen=True, slots=True)
class Spent:
    """What one command took, its largest resident memory, and what it printed."""

    wall_s: float
    peak_bytes: int
    out: str


def run(*words: object) -> Spent:
    """Runs a command to its end.

    Raises:
        SystemExit: It failed; its errors are told.
    """
    command, start_s = [*map(str, words)], time.monotonic()
    with TemporaryFile("w+") as out, TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - start_s
        for stream in (out, errors):
            stream.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{errors.read()}")
        return Spent(wall_s, usage.ru_maxrss * 1024, out.read())


def skipc(*words: object) -> Spent:
    """Runs ``skipc`` as a user would."""
    return run(sys.executable, "-m", "skipc.tools.cli", *words)


def in_fresh_process(function: Callable[..., object], *words: object) -> Any:
    """Returns what a module's function makes of some words, in a process of its own."""
    made = run(sys.executable, "-c", _CALL, function.__module__, function.__name__, *words)
    return json.loads(made.out)


def timed_ms(call: Call) -> float:
    """Returns how long ``call`` took."""
    start_ns = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start_ns) / 1e6


def by_turns_ms(first: Call, second: Call, rounds: int) -> list[tuple[float, float]]:
    """Returns both times of each round; the calls take turns in going first."""
    return [
        (timed_ms(second), timed_ms(first))[::-1]
        if number % 2
        else (timed_ms(first), timed_ms(second))
        for number in range(rounds)
    ]


def ratio(pairs: Iterable[tuple[float, float]]) -> float:
    """Returns the median of the first ones over the second ones."""
    return statistics.median(first / second for first, second in pairs)
