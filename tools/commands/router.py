"""``skipc router``: a small network that chooses a configuration for each input."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import numpy as np

from skipc.runtime.load.opening import NULL_TARGET
from skipc.tools.console import console, plural, print_json, print_prose, progress, table
from skipc.tools.data_options import data_options, numbers
from skipc.tools.options import PATH, target_name

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from skipc.compiler.select.data import DataOptions
    from skipc.tools.training.routing import Aim, TrainedRouter

    ByDifficulty = dict[str, dict[int, NDArray[np.float64]]]

_LEAST_SAMPLES = 8
_MOST_SAMPLES = 20000
_DROP = "0.3"


def _aims(drop: str | None, mean_ms: str | None) -> list[Aim]:
    from skipc.tools.training.routing import Aim

    if drop is None and mean_ms is None:
        drop = _DROP
    drops = () if drop is None else numbers("--drop", drop)
    means = () if mean_ms is None else numbers("--mean-ms", mean_ms)
    for option, values, most in (("--drop", drops, 100), ("--mean-ms", means, np.inf)):
        for value in values:
            if not 0 <= value < most or (option == "--mean-ms" and value == 0):
                raise click.UsageError(
                    f"{option} {value:g}: expected"
                    + (" points from 0 to 100." if most == 100 else " milliseconds above 0.")
                )
    aims = [Aim(value / 100, None) for value in drops] + [Aim(None, ms) for ms in means]
    return list(dict.fromkeys(aims))


@click.command("router")
@click.argument("bundle", type=PATH)
@click.option(
    "--front",
    type=PATH,
    required=True,
    metavar="FRONT",
    help="The front.json that BUNDLE was built from; the router is written beside it.",
)
@data_options(
    "Labelled data, as `skipc policy --data` takes it, that nothing else has seen.",
    samples=(_LEAST_SAMPLES, _MOST_SAMPLES),
    parts="30:20:30:20",
    shares="fitting, for selecting, for `skipc policy` to certify by, and for the report",
    seeded="the samples, their parts, and how training begins",
)
@click.option(
    "--ways",
    metavar="NAME,...",
    help="The configurations that it may name.  [default: those that none is as fast and more"
    " accurate than]",
)
@click.option(
    "--drop",
    metavar="POINTS,...",
    help="What accuracy may fall by, against the best configuration; an entry for each."
    f"  [default: {_DROP}]",
)
@click.option(
    "--mean-ms",
    metavar="MS,...",
    help="What a sample may take on average; an entry for each.",
)
@click.option("--name", default="routed", help="What the entries' names begin with.")
@click.option(
    "--target",
    help="Whose engines answer.  [default: the first by name that fit this machine; the graphs"
    " where there are none]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path,
    front: Path,
    data: DataOptions,
    ways: str | None,
    drop: str | None,
    mean_ms: str | None,
    name: str,
    target: str | None,
    as_json: bool,
) -> None:
    """Train a router, which chooses one of BUNDLE's configurations for each input.

    It is a small network on the input. It is written beside the FRONT, which gets a
    configuration for each --drop and --mean-ms; build it again to have them. `skipc policy`
    certifies one.
    """
    from skipc.compiler.bundle.files import check_writable
    from skipc.compiler.select.data import labelled_parts
    from skipc.runtime.bundle import Bundle
    from skipc.tools.training.routing import candidates, train_router

    if target == NULL_TARGET:
        raise click.UsageError("--target null: it computes nothing that could be looked at.")
    aims = _aims(drop, mean_ms)
    asked = () if ways is None else tuple(each.strip() for each in ways.split(","))
    opened = Bundle.open(bundle)
    entries = candidates(opened, front, asked)
    wanted = None if target is None else target_name(opened, target)
    check_writable(front.resolve())
    with progress() as step:
        step("reading the data")
        manifest = opened.manifest
        fitting, selection, _, report = labelled_parts(
            data, manifest.inputs, manifest.outputs[0], manifest.dimensions
        )
        found = train_router(
            *(opened, front, entries, bool(asked), (fitting, selection, report), aims, name),
            *(wanted, data.seed, step),
        )
    by_difficulty = _by_difficulty(data, found)
    if as_json:
        print_json(_json(found, by_difficulty))
    else:
        _print(found, by_difficulty, front, console())


def _by_difficulty(data: DataOptions, found: TrainedRouter) -> ByDifficulty:
    """Returns by entry and difficulty what share each way takes; {} where none is known."""
    from skipc.compiler.select.data import NAMED

    if data.text not in NAMED:
        return {}
    difficulty = NAMED[data.text]().policy[3].difficulty[: found.samples]
    levels = np.unique(difficulty).tolist()
    if len(levels) < 2:
        return {}
    return {
        entry.name: {
            level: np.bincount(sent[difficulty == level], minlength=len(found.ways))
            / int((difficulty == level).sum())
            for level in levels
        }
        for entry, sent in zip(found.entries, found.sent, strict=True)
    }


def _json(found: TrainedRouter, by_difficulty: ByDifficulty) -> dict[str, object]:
    return {
        "path": str(found.path),
        "ways": found.ways,
        "alone": [{"accuracy": a, "mean_ms": ms} for a, ms in found.alone],
        "entries": [asdict(entry) for entry in found.entries],
        "best": asdict(found.best),
        "router_ms": found.router_ms,
        "source": found.source,
        "samples": found.samples,
        "ties": found.ties,
        "by_difficulty": {
            name: {str(level): shares.tolist() for level, shares in each.items()}
            for name, each in by_difficulty.items()
        },
    }


def _print(
    found: TrainedRouter,
    by_difficulty: ByDifficulty,
    front: Path,
    out: Console,
) -> None:
    unit = "ms by MACs" if found.source == "macs" else "ms"
    rows = table(
        *("configuration", ">accuracy", f">mean {unit}", ">of one as accurate"),
        ">" + " / ".join(found.ways),
    )
    for name, (accuracy, mean_ms) in zip(found.ways, found.alone, strict=True):
        rows.add_row(name, f"{100 * accuracy:.2f} %", f"{mean_ms:.3f}", "", "")
    for entry in found.entries:
        outcome, static_ms = entry.outcome, entry.static_ms
        rows.add_row(
            entry.name,
            f"{100 * outcome.accuracy:.2f} %",
            f"{outcome.mean_ms:.3f}",
            "none is" if static_ms is None else f"{outcome.mean_ms / static_ms:.2f}",
            _shares(outcome.shares),
        )
    best = found.best
    rows.add_row(
        "(who knows the labels)",
        f"{100 * best.accuracy:.2f} %",
        f"{best.mean_ms:.3f}",
        "",
        _shares(best.shares),
    )
    out.print(rows)
    for name, levels in by_difficulty.items():
        out.print(f"\n{name}, by difficulty", style="bold")
        each = table("difficulty", *(f">{way}" for way in found.ways))
        for level, shares in levels.items():
            each.add_row(str(level), *(f"{100 * share:.0f} %" for share in shares.tolist()))
        out.print(each)
    ties = f"{found.samples - found.ties} of {plural(found.samples, 'sample')}"
    print_prose(
        out,
        f"\nThe router takes {found.router_ms:.3f} {unit}, which is counted. {ties} go as in"
        f" PyTorch. Written: {found.path} and {plural(len(found.entries), 'configuration')} in"
        f" {front}. Build it again.",
    )


def _shares(shares: tuple[float, ...]) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in shares) + " %"
