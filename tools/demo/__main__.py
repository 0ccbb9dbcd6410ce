"""``make demo``: train, select, build, run under a changing budget, show what happened.

Every step is what a user would do: the commands of ``skipc`` train the network, select its
configurations, build the bundle and draw the trace, and the calls go through
``AdaptiveEngine``.
"""

from __future__ import annotations

import itertools
import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from skipc.compiler.extras import require
from skipc.compiler.recipes.digits_data import Part
from skipc.compiler.select.data import NAMED
from skipc.runtime import AdaptiveEngine, Budget, Bundle
from skipc.runtime.call.trace import trace_lines, trace_of
from skipc.tools.cli import cli, run_and_exit
from skipc.tools.console import console, size_text, table
from skipc.tools.views.routes import exits_of, percent_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from rich.console import Console

    from skipc.runtime import CallRecord, ConfigurationStats
    from skipc.runtime.bundle.manifest import Manifest

    Numbers = NDArray[np.int64]

QUANTILE = 0.6
"""The share of calls that a budget is for: where early exits answer most, it is theirs."""
CALLS_PER_PHASE = 300
HARDER_CALLS = 1800
_TURNS = 30
_AMPLE_MS = 1e6


@dataclass(frozen=True, slots=True)
class Setting:
    """What is shown on.

    Attributes:
        data: A name in ``NAMED``.
        train: Options of ``skipc train early-exit``.
        select: Options of ``skipc select``.
        samples: So many of the report's images are answered by each configuration.
    """

    data: str
    train: tuple[str, ...]
    select: tuple[str, ...]
    samples: int


DEMO = Setting(
    data="clutter",
    train=(
        *("--network-arg", "widths=[16,16,96]", "--network-arg", "depths=[0,4,1]"),
        *("--network-arg", "drop=0.1", "--heads", "2", "--rate", "0.01", "--epochs", "6"),
    ),
    select=("--samples", "2000", "--evaluations", "16", "--max-drop", "12", "--size", "8"),
    samples=2000,
)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-out"))
def main(out: Path) -> None:
    """Trains a small network with early exits, compiles it, runs it under falling budgets."""
    show(out, DEMO)


def show(out: Path, setting: Setting) -> None:
    """Shows all of it; what is made lies in the folder ``out``."""
    require("matplotlib", "select")  # before the training, not after it
    printed = console()
    out.mkdir(parents=True, exist_ok=True)
    data, checkpoint, front = setting.data, out / "ckpt.pt", out / "front.json"
    bundle, calls = out / f"{data}.skipc", out / "calls.jsonl"
    printed.print("1. Train a ResNet with stochastic depth and early exits", style="bold")
    _skipc(printed, "train", "early-exit", "--data", data, *setting.train, "--out", out)
    printed.print("\n2. Select the configurations worth building", style="bold")
    _skipc(printed, "select", checkpoint, "--data", data, "--exits", "--target", "cpu",
           *setting.select, "--out", front, "--cache", out / "evaluations")  # fmt: skip
    printed.print("\n3. Compile", style="bold")
    _skipc(printed, "build", checkpoint, "--front", front, "--target", "cpu",
           "--out", bundle, "--overwrite")  # fmt: skip
    printed.print("\n4. Run one image per call, one thread", style="bold")
    manifest, report = Bundle.open(bundle).manifest, NAMED[data]().report
    with AdaptiveEngine.open(bundle, threads=1) as engine:
        _print_each(printed, engine, manifest, report.rows(slice(setting.samples)))
        falling = _under_falling_budgets(engine, report)
        route = max(manifest.configurations, key=lambda entry: len(entry.route))
        harder, records = _as_images_become_harder(engine, route.name, report)
        traced = trace_of("the demo", engine.stats(), (*falling, *records))
    calls.write_text("".join(trace_lines(traced)), encoding="utf-8")
    printed.print("\n5. Under a budget that falls in steps", style="bold")
    _skipc(printed, "trace", calls, "--out", out / "demo.png")
    printed.print(f"\n6. {route.name}, as pictures become harder", style="bold")
    exits = [each.name for each in exits_of(manifest, route)]
    _print_difficulty(printed, records, harder.difficulty, exits)


def _skipc(printed: Console, *arguments: object) -> None:
    """Runs a command of ``skipc``, in this process; a failure ends the demo as it would."""
    path, here = Path(sys.executable).with_name("skipc"), Path.cwd()
    # Relative where that is shorter.
    installed = str(path.relative_to(here) if path.is_relative_to(here) else path)
    words = [str(argument) for argument in arguments]
    printed.print(f"$ {shlex.join([installed, *words])}", soft_wrap=True)
    status = cli.main(words, prog_name="skipc", standalone_mode=False)
    if status:
        raise SystemExit(status)


def _print_each(
    printed: Console, engine: AdaptiveEngine, manifest: Manifest, report: Part
) -> None:
    """Prints each configuration over all report images."""
    within = f">{100 * QUANTILE:.0f} % within"
    rows = table(
        *("configuration", ">skipped", "answers at", ">accuracy", ">mean ms", within),
        *(">own", ">shared"),
    )
    for entry in manifest.configurations:
        engine.pin(entry.name)
        right = [_is_right(engine, report, index) for index in range(len(report.labels))]
        times_ms = [record.latency_ms for record in engine.trace()[-len(right) :]]
        engine.pin(None)
        stats = engine.stats().configurations
        held = next(each for each in stats if each.configuration == entry.name)
        rows.add_row(
            entry.name,
            str(len(entry.taken("skip"))),
            ", ".join(entry.taken("exits")) or "end",
            f"{100 * np.mean(right):.1f} %",
            f"{np.mean(times_ms):.3f}",
            f"{np.quantile(times_ms, QUANTILE):.3f}",
            size_text(held.own_bytes),
            size_text(held.shared_bytes),
        )
    printed.print(rows)


def _under_falling_budgets(engine: AdaptiveEngine, report: Part) -> tuple[CallRecord, ...]:
    """Returns the calls while the budget goes down in steps."""
    images = itertools.cycle(report.images[:, None])
    # Alternating first, so that the governor learns what each takes beside the others here.
    names = [each.configuration for each in engine.stats().configurations]
    engine.budget = Budget(latency_ms=_AMPLE_MS, quantile=QUANTILE)
    for name in _TURNS * names:
        engine.pin(name)
        engine(next(images))
    engine.pin(None)
    best = unbeaten(engine.stats().configurations)
    for place in range(len(best) + 1):
        # By what is predicted now: a machine whose other work comes and goes moves all alike.
        now_ms = {
            each.configuration: each.predicted_ms for each in engine.stats().configurations
        }
        budget_ms = budget_at(place, [now_ms[name] for name in best])
        engine.budget = Budget(latency_ms=budget_ms, quantile=QUANTILE)
        for image in itertools.islice(images, CALLS_PER_PHASE):
            engine(image)
    return engine.trace()[-CALLS_PER_PHASE * (len(best) + 1) :]


def unbeaten(points: Sequence[ConfigurationStats]) -> list[str]:
    """Returns the configurations that none is both as fast as and as accurate as.

    The slowest first, as predicted now.
    """
    best: list[ConfigurationStats] = []
    for point in sorted(points, key=lambda each: (each.predicted_ms, -each.rank)):
        if not best or point.rank > best[-1].rank:
            best.append(point)
    return [point.configuration for point in reversed(best)]


def budget_at(place: int, times_ms: Sequence[float]) -> float:
    """Returns the budget between a configuration and the one before it, the slowest first.

    The first is above all of them, and one more is below all.
    """
    if place == 0:
        return 1.5 * times_ms[0]
    if place == len(times_ms):
        return 0.7 * times_ms[-1]
    return math.sqrt(times_ms[place - 1] * times_ms[place])


def _as_images_become_harder(
    engine: AdaptiveEngine, route: str, report: Part
) -> tuple[Part, tuple[CallRecord, ...]]:
    """Returns images from the easiest to the hardest, and the calls of one route on them."""
    spread = np.linspace(0, len(report.labels) - 1, HARDER_CALLS).astype(int)
    order = np.argsort(report.difficulty, kind="stable")[spread]
    engine.budget = Budget()
    engine.pin(route)
    for image in report.images[order, None]:
        engine(image)
    engine.pin(None)
    harder = Part(report.images[order], report.labels[order], report.difficulty[order])
    return harder, engine.trace()[-HARDER_CALLS:]


def _print_difficulty(
    printed: Console, records: Sequence[CallRecord], difficulty: Numbers, exits: Sequence[str]
) -> None:
    """Prints where images of each difficulty were answered."""
    stages = np.array([record.stage for record in records])
    rows = table("difficulty", *(f">{name}" for name in exits), ">mean ms")
    for each in np.unique(difficulty):
        own = difficulty == each
        shares = np.bincount(stages[own], minlength=len(exits)) / own.sum()
        taken_ms = [r.latency_ms for r, is_own in zip(records, own, strict=True) if is_own]
        rows.add_row(str(each), *map(percent_of, shares), f"{np.mean(taken_ms):.3f}")
    printed.print(rows)


def _is_right(engine: AdaptiveEngine, report: Part, index: int) -> bool:
    return bool(engine(report.images[index][None]).argmax() == report.labels[index])


if __name__ == "__main__":
    run_and_exit(main, "python -m skipc.tools.demo")
