"""``skipc train``: train a network that tolerates the loss of parts of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from skipc.tools.console import console, progress
from skipc.tools.options import PATH, pairs

if TYPE_CHECKING:
    from pathlib import Path

_RECIPES = ("stochastic-depth", "sub-paths")
_NETWORKS = ("resnet", "vit", "subpath-resnet", "subpath-vit")


@click.command("train", short_help="Train a network that tolerates skipping.")
@click.argument("recipe", type=click.Choice(_RECIPES))
@click.option(
    "--network",
    type=click.Choice(_NETWORKS),
    help="What to train.  [default: resnet; subpath-resnet for sub-paths]",
)
@click.option(
    "--network-arg",
    "network_args",
    metavar="K=V",
    multiple=True,
    callback=pairs,
    help="An argument of the network, e.g. drop=0.3; may be repeated.",
)
@click.option(
    "--data",
    default="digits",
    metavar="DATA",
    help="'digits', 'clutter', a folder of CIFAR's python files, or one folder per class.",
)
@click.option(
    "--image-size",
    type=click.IntRange(min=8),
    help="Height and width that a folder's images are brought to.",
)
@click.option(
    "--out",
    type=PATH,
    required=True,
    help="Folder for ckpt.pt, log.csv and what --resume needs.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Passes over the data.  [default: 40; 80 for transformers]",
)
@click.option("--batch", type=click.IntRange(min=2), default=64, help="Images per step.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Highest learning rate (AdamW, one cycle).  [default: 0.005; 0.001 for transformers]",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(min=0),
    default=0.05,
    help="AdamW's; norms and biases have none.",
)
@click.option(
    "--smoothing", type=click.FloatRange(min=0, max=0.9), default=0.05, help="Label smoothing."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    help="Of weights, order, augmentation and what is dropped.",
)
@click.option("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    help="Mixed precision, where not fp32.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="PyTorch's threads.  [default: 1 for digits, else PyTorch's choice]",
)
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in --out.")
def command(
    recipe: str,
    network: str | None,
    network_args: tuple[tuple[str, str], ...],
    data: str,
    image_size: int | None,
    out: Path,
    epochs: int | None,
    rate: float | None,
    seed: int,
    threads: int | None,
    resume: bool,
    **others: Any,
) -> None:
    """Train a network of ours by RECIPE; write a checkpoint that `skipc select` takes.

    stochastic-depth drops residual branches at random (--network-arg drop=0.3, schedule=linear
    or uniform, convention=original, inverted or none, per=batch or sample). sub-paths trains
    the full network and the one without the second halves of its stages together.
    """
    from skipc.compiler.extras import require
    from skipc.compiler.read.factories import parse_arguments

    require("torch", "compiler")
    from skipc.tools.training.images import read_training_data
    from skipc.tools.training.state import LAST_FILE
    from skipc.tools.training.training import TrainOptions, train

    chosen = network or ("resnet" if recipe == "stochastic-depth" else "subpath-resnet")
    usual_epochs, usual_rate = (80, 1e-3) if chosen.endswith("vit") else (40, 5e-3)
    options = TrainOptions(
        recipe=recipe,
        network=chosen,
        arguments=parse_arguments(network_args),
        epochs=epochs or usual_epochs,
        rate=rate or usual_rate,
        seed=seed,
        threads=threads or (1 if data == "digits" else None),
        **others,
    )
    with progress() as step:
        step("reading the data")
        images = read_training_data(data, image_size, seed)
        step("training")
        before = _changed(out / LAST_FILE)
        try:
            trained = train(images, options, out, resume, step.advance)
        except KeyboardInterrupt:
            if resume or _changed(out / LAST_FILE) != before:
                step.note(
                    "The epochs that ended are kept: the same command with --resume goes on"
                    " from there."
                )
            raise
    printed = console()
    printed.print(f"accuracy on the held-out images: {100 * trained.accuracy:.2f} %")
    if trained.base_accuracy is not None:
        printed.print(f"... with everything skipped:     {100 * trained.base_accuracy:.2f} %")
    printed.print(f"Written: {trained.checkpoint}, {out / 'log.csv'}", soft_wrap=True)


def _changed(path: Path) -> int:
    """Returns when a file was last written, in nanoseconds; 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0
