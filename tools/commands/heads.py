"""``skipc heads``: small classifiers for answers before a network's end."""

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
    from skipc.tools.training.heads import TrainedHeads


@click.command("heads", ProjectCommand)
@click.argument("checkpoint", type=PATH)
@data_options(
    "Labelled data, as `skipc select --data` takes it, but none that it gets.",
    samples=(6, 10000),
    parts="60:20:20",
    shares="training, for choosing, and for the report",
)
@click.option(
    "--at",
    metavar="UNIT,...",
    default="auto",
    help="The units after which heads go; auto: where they gain most accuracy per operation.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1, max=16),
    default=3,
    help="How many heads auto chooses at most.",
)
@model_options
@no_cache_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    checkpoint: Path,
    data: DataOptions,
    at: str,
    count: int,
    model: ModelOptions,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Train heads for early exits of CHECKPOINT, whose own weights stay as they are.

    A head is a linear layer on the mean over all positions of the stream after a unit. They
    are written beside the checkpoint, where `units` and `build` find them.
    """
    from skipc.tools.training.heads import train_heads

    names = () if at == "auto" else tuple(name.strip() for name in at.split(","))
    with progress() as step:
        step("reading the checkpoint")
        supernet = open_supernet(checkpoint, model, no_cache, step)
        trained = train_heads(supernet, checkpoint, data, names, count, step)
    if as_json:
        print_json(asdict(trained) | {"path": str(trained.path)})
    else:
        _print(trained)


def _print(trained: TrainedHeads) -> None:
    out = console()
    rows = table("head after", ">of the MACs", ">accuracy", "")
    for head in trained.heads:
        rows.add_row(
            head.name,
            f"{100 * head.share:.0f} %",
            f"{100 * head.accuracy:.1f} %",
            "written" if head.chosen else "",
        )
    rows.add_row("(the network's end)", "100 %", f"{100 * trained.end:.1f} %", "")
    out.print(rows)
    written = sum(head.chosen for head in trained.heads)
    out.print(
        f"\n{plural(written, 'head')} in {trained.path}, trained on"
        f" {plural(trained.samples, 'sample')}. Name them under 'exits' in front.json.",
        soft_wrap=True,
    )
