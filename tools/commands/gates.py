"""``skipc gates``: small networks that decide, input by input, which units run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from skipc.tools.console import console, plural, print_json, progress, table
from skipc.tools.data_options import data_options
from skipc.tools.options import PATH, model_options, no_cache_option, open_supernet
from skipc.tools.project import ProjectCommand

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.read import ModelOptions
    from skipc.compiler.select.data import DataOptions
    from skipc.tools.training.frozen_gates import TrainedGates
    from skipc.tools.training.gates import Evaluated


@click.command("gates", ProjectCommand)
@click.argument("checkpoint", type=PATH)
@data_options(
    "Labelled data, as `skipc select --data` takes it, but none that it gets.",
    samples=(6, 10000),
    parts="60:20:20",
    shares="training, for setting how much runs, and for the report",
    seeded="the samples and their parts, and the gates' first weights",
)
@click.option(
    "--target",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    help="The part of the network's MACs that is to run, on the average.",
)
@click.option(
    "--at",
    metavar="UNIT,...",
    default="",
    show_default=False,
    help="The units that get gates.  [default: all]",
)
@click.option(
    "--channels",
    type=click.IntRange(min=1),
    default=1,
    help="In how many parts of its channels a branch runs, at most; gates decide how many.",
)
@click.option(
    "--epochs", type=click.IntRange(min=1), default=10, help="Passes over the training part."
)
@model_options
@no_cache_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    checkpoint: Path,
    data: DataOptions,
    target: float,
    at: str,
    channels: int,
    epochs: int,
    model: ModelOptions,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Train gates for the units of CHECKPOINT, whose own weights stay as they are.

    A gate decides whether its unit runs for an input, by the mean over all positions of the
    stream in front of the unit, and by what the gates before saw. They are written beside the
    checkpoint, where `build` finds them.
    """
    from skipc.tools.training.frozen_gates import GateOptions, train_gates

    names = tuple(name.strip() for name in at.split(",") if name.strip())
    options = GateOptions(target, epochs, names, channels, data.seed)
    with progress() as step:
        step("reading the checkpoint")
        supernet = open_supernet(checkpoint, model, no_cache, step)
        trained = train_gates(supernet, checkpoint, data, options, step)
    if as_json:
        print_json(asdict(trained) | {"path": str(trained.path)})
    else:
        _print(trained)


def _print(trained: TrainedGates) -> None:
    out = console()
    rates = table("unit", ">runs for")
    for unit, rate in zip(trained.units, trained.gated.rates, strict=True):
        rates.add_row(unit, f"{100 * rate:.0f} %")
    out.print(rates)
    rows = table("gates", ">of the MACs", ">accuracy")
    rows.add_row("(everything runs)", *_reached(trained.full))
    rows.add_row("left to themselves", *_reached(trained.gated))
    for cap, found in reversed([*trained.caps.items()]):
        rows.add_row(f"at most {plural(cap, 'unit')}", *_reached(found))
    out.print()
    out.print(rows)
    for unit, reason in trained.refused.items():
        out.print(f"{unit} always runs: {reason}", soft_wrap=True)
    for unit, reason in trained.whole.items():
        out.print(f"{unit} runs whole or not at all: {reason}", soft_wrap=True)
    out.print(
        f"\n{plural(len(trained.units), 'decision')} in {trained.path}, trained on"
        f" {plural(trained.samples, 'sample')}. Write 'gates' into configurations of"
        " front.json.",
        soft_wrap=True,
    )


def _reached(found: Evaluated) -> tuple[str, str]:
    return f"{100 * found.compute:.0f} %", f"{100 * found.accuracy:.1f} %"
