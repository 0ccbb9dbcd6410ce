"""``make demo``: train, select, build, run under a changing budget, show what happened.

Every step is what a user would do: the ``skipc`` command trains the network, selects its
configurations, builds the bundle and draws the trace, and the calls go through
``AdaptiveEngine``.
"""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from skipc.compiler.extras import require
from skipc.compiler.recipes.digits_data import Part, load_digits
from skipc.runtime import AdaptiveEngine, Budget, Bundle
from skipc.runtime.call.trace import trace_lines, trace_of
from skipc.tools.cli import run_and_exit
from skipc.tools.console import console, size_text, table

if TYPE_CHECKING:
    from rich.console import Console

CALLS_PER_PHASE = 150


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
    printed.print("\n4. Run one image per call, one thread", style="bold")
    report, calls = load_digits().report, out / "calls.jsonl"
    with AdaptiveEngine.open(bundle, threads=1) as engine:
        _print_each(printed, engine, Bundle.open(bundle), report)
        right = _under_changing_budget(engine, report)
        traced = trace_of("the demo", engine.stats(), engine.trace()[-len(right) :])
    calls.write_text("".join(trace_lines(traced)), encoding="utf-8")
    printed.print("\n5. The same under a budget that falls in steps and rises", style="bold")
    _skipc(printed, "trace", calls, "--out", out / "demo.png")
    printed.print(f"Accuracy of the answers: {100 * np.mean(right):.1f} %.")


def _skipc(printed: Console, *arguments: object) -> None:
    """Runs ``skipc`` as a user would; a failure ends the demo with its exit code."""
    path, here = Path(sys.executable).with_name("skipc"), Path.cwd()
    # Relative where that is shorter.
    installed = str(path.relative_to(here) if path.is_relative_to(here) else path)
    command = [installed, *map(str, arguments)]
    printed.print(f"$ {shlex.join(command)}", soft_wrap=True)
    sys.stdout.flush()
    finished = subprocess.run(command, check=False)
    if finished.returncode != 0:
        raise SystemExit(finished.returncode)


def _print_each(
    printed: Console, engine: AdaptiveEngine, bundle: Bundle, report: Part
) -> None:
    """Prints each configuration over all report images."""
    rows = table(
        "configuration", ">skipped", ">accuracy", ">p50 ms", ">p99 ms", ">own", ">shared"
    )
    for entry in bundle.manifest.configurations:
        engine.pin(entry.name)
        right = [_is_right(engine, report, index) for index in range(len(report.labels))]
        times_ms = [record.latency_ms for record in engine.trace()[-len(right) :]]
        engine.pin(None)
        stats = engine.stats().configurations
        held = next(each for each in stats if each.configuration == entry.name)
        rows.add_row(
            entry.name,
            str(len(entry.taken("skip"))),
            f"{100 * np.mean(right):.1f} %",
            *(f"{ms:.3f}" for ms in np.percentile(times_ms, (50, 99))),
            size_text(held.own_bytes),
            size_text(held.shared_bytes),
        )
    printed.print(rows)


def _under_changing_budget(engine: AdaptiveEngine, report: Part) -> list[bool]:
    """Returns whether each call was right, while the budget goes down in steps, then up."""
    predicted_ms = sorted(c.predicted_ms for c in engine.stats().configurations)
    # Above the slowest, between each two neighbours, and below the fastest: infeasible.
    steps = [1.5 * predicted_ms[-1]]
    steps += [(a + b) / 2 for a, b in itertools.pairwise(predicted_ms)][::-1]
    steps += [0.5 * predicted_ms[0]]
    right: list[bool] = []
    for budget_ms in (*steps, *steps[-2::-1]):
        engine.budget = Budget(latency_ms=budget_ms)
        for _ in range(CALLS_PER_PHASE):
            right.append(_is_right(engine, report, len(right) % len(report.labels)))
    return right


def _is_right(engine: AdaptiveEngine, report: Part, index: int) -> bool:
    return bool(engine(report.images[index][None]).argmax() == report.labels[index])


if __name__ == "__main__":
    run_and_exit(main, "python -m skipc.tools.demo")
