"""``make demo``: train, select, build, run under a changing budget, show what happened.

Every step is what a user would do: the ``skipc`` command trains the network, selects its
configurations and builds the bundle, and the calls go through ``AdaptiveEngine``.
"""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from skipc.compiler.extras import require
from skipc.compiler.recipes.digits_data import Part, load_digits
from skipc.runtime import AdaptiveEngine, Budget, Bundle
from skipc.tools.cli import run_and_exit
from skipc.tools.console import console, size_text, table
from skipc.tools.demo.picture import Call, Point, draw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

CALLS_PER_PHASE = 150


@dataclass(frozen=True, slots=True)
class Measured:
    """One configuration over all report images, one image per call."""

    configuration: str
    skipped: int
    accuracy: float
    p50_ms: float
    p99_ms: float
    own_bytes: int
    shared_bytes: int


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-out"))
@click.option("--epochs", type=click.IntRange(min=1), default=40)
def main(out: Path, epochs: int) -> None:
    """Trains a small network on digits, compiles it and runs it under a changing budget."""
    require("matplotlib", "select")  # before the training, not after it
    printed = console()
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, front, bundle = out / "ckpt.pt", out / "front.json", out / "digits.skipc"
    printed.print("1. Train a stochastic-depth ResNet on scikit-learn's digits", style="bold")
    _skipc(printed, "train", "stochastic-depth", "--epochs", epochs, "--out", out)
    printed.print("\n2. Select the configurations worth building", style="bold")
    _skipc(printed, "select", checkpoint, "--data", "digits", "--target", "cpu",
           "--max-drop", 3, "--out", front, "--cache", out / "evaluations")  # fmt: skip
    printed.print("\n3. Compile", style="bold")
    _skipc(printed, "build", checkpoint, "--front", front, "--target", "cpu",
           "--out", bundle, "--overwrite")  # fmt: skip
    report = load_digits().report
    entries = Bundle.open(bundle).manifest.configurations
    with AdaptiveEngine.open(bundle, threads=1) as engine:
        measured = [_measure(engine, e.name, len(e.taken("skip")), report) for e in entries]
        calls = list(_under_changing_budget(engine, report))
    _report(printed, measured, calls)
    picture = out / "demo.png"
    draw(
        picture,
        [Point(m.configuration, m.p50_ms, m.accuracy) for m in measured],
        calls,
    )
    printed.print(f"\nPicture: {picture}", soft_wrap=True)


def _skipc(printed: Console, *arguments: object) -> None:
    """Runs ``skipc`` as a user would; a failure ends the demo with its exit code."""
    command = [_installed_command(), *map(str, arguments)]
    printed.print(f"$ {shlex.join(command)}", soft_wrap=True)
    sys.stdout.flush()
    finished = subprocess.run(command, check=False)
    if finished.returncode != 0:
        raise SystemExit(finished.returncode)


def _installed_command() -> str:
    """Returns the path of ``skipc`` beside this Python, relative where that is shorter."""
    path = Path(sys.executable).with_name("skipc")
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _measure(engine: AdaptiveEngine, name: str, skipped: int, report: Part) -> Measured:
    engine.pin(name)
    right = 0
    times_ms = []
    for image, label in zip(report.images, report.labels, strict=True):
        logits = engine(image[None])
        assert engine.last is not None
        times_ms.append(engine.last.latency_ms)
        right += int(logits.argmax() == label)
    engine.pin(None)
    stats = next(c for c in engine.stats().configurations if c.configuration == name)
    p50_ms, p99_ms = np.percentile(times_ms, (50, 99))
    return Measured(
        configuration=name,
        skipped=skipped,
        accuracy=right / len(report.labels),
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        own_bytes=stats.own_bytes,
        shared_bytes=stats.shared_bytes,
    )


def _under_changing_budget(engine: AdaptiveEngine, report: Part) -> Iterator[Call]:
    """Yields the calls of one pass: the budget goes down in steps, then up again."""
    predicted_ms = sorted(c.predicted_ms for c in engine.stats().configurations)
    # Above the slowest, between each two neighbours, and below the fastest: infeasible.
    steps = [1.5 * predicted_ms[-1]]
    steps += [(a + b) / 2 for a, b in itertools.pairwise(predicted_ms)][::-1]
    steps += [0.5 * predicted_ms[0]]
    number = 0
    for budget_ms in (*steps, *steps[-2::-1]):
        engine.budget = Budget(latency_ms=budget_ms)
        for _ in range(CALLS_PER_PHASE):
            index = number % len(report.labels)
            logits = engine(report.images[index][None])
            last = engine.last
            assert last is not None
            yield Call(
                number,
                budget_ms,
                last.latency_ms,
                last.configuration,
                last.feasible,
                bool(logits.argmax() == report.labels[index]),
            )
            number += 1


def _report(printed: Console, measured: list[Measured], calls: list[Call]) -> None:
    printed.print("\n4. Run one image per call, one thread", style="bold")
    rows = table(
        "configuration", ">skipped", ">accuracy", ">p50 ms", ">p99 ms", ">own", ">shared"
    )
    for m in measured:
        rows.add_row(
            m.configuration,
            str(m.skipped),
            f"{100 * m.accuracy:.1f} %",
            f"{m.p50_ms:.3f}",
            f"{m.p99_ms:.3f}",
            size_text(m.own_bytes),
            size_text(m.shared_bytes),
        )
    printed.print(rows)
    feasible = [call for call in calls if call.feasible]
    kept = sum(call.latency_ms <= call.budget_ms for call in feasible)
    pairs = list(itertools.pairwise(calls))
    changes = sum(a.budget_ms != b.budget_ms for a, b in pairs)
    switches = sum(a.configuration != b.configuration for a, b in pairs)
    right = sum(call.right for call in calls)
    printed.print(
        f"\n{len(calls)} calls, {changes} changes of the budget, {switches} switches, accuracy"
        f" {100 * right / len(calls):.1f} %.\n{len(feasible)} calls had a feasible budget;"
        f" {100 * kept / max(len(feasible), 1):.1f} % of them kept it."
    )


if __name__ == "__main__":
    run_and_exit(main, "python -m skipc.tools.demo")
