"""What the programs of the benchmark share: fresh processes, and calls that take turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

Call = Callable[[], object]

_CALL = (
    "import importlib, json, sys; module, name, *words = sys.argv[1:];"
    " print(json.dumps(getattr(importlib.import_module(module), name)(*words)))"
)


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
