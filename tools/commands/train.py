"""``skipc train``: train a network that tolerates the loss of parts of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from skipc.tools.console import console, progress
from skipc.tools.options import PATH, pairs

if TYPE_CHECKING:
    from pathlib import Path

_EARLY_EXIT, _GATES = "early-exit", "gates"
_RECIPES = ("stochastic-depth", "sub-paths", _EARLY_EXIT, _GATES)
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
    "--heads",
    type=click.IntRange(min=1, max=16),
    help="How many early exits early-exit trains along.  [default: 3]",
)
@click.option(
    "--target",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="The part of the MACs that gates lets run, on the average.  [default: 0.25]",
)
@click.option(
    "--channels",
    type=click.IntRange(min=1),
    help="In how many parts of its channels gates lets a branch run, at most.  [default: 1]",
)
@click.option(
    "--resolution",
    "resolutions",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    multiple=True,
    help="Train on images of this height, too, in every step; may be repeated.",
)
@click.option(
    "--bit-errors",
    metavar="RATE",
    help="Train with so many of the weights' bits wrong, as float32; int8:RATE as int8. The"
    " rate is raised step by step.",
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
    heads: int | None,
    target: float | None,
    bit_errors: str | None,
    channels: int | None,
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
    the full network and the one without the second halves of its stages together. early-exit
    trains stochastic-depth's networks and heads for early exits together; the heads lie beside
    the checkpoint, as those of `skipc heads`. gates trains a ResNet, then gates for its
    blocks, then both together; the gates lie beside the checkpoint, as those of `skipc gates`.
    """
    from skipc.compiler.extras import require
    from skipc.compiler.gates import gates_path
    from skipc.compiler.heads import heads_path
    from skipc.compiler.read.factories import parse_arguments

    require("torch", "compiler")
    from skipc.tools.training.bit_errors import read_bit_errors
    from skipc.tools.training.images import read_training_data
    from skipc.tools.training.state import LAST_FILE
    from skipc.tools.training.training import TrainOptions, train

    if heads is not None and recipe != _EARLY_EXIT:
        raise click.UsageError(f"--heads: only early-exit trains heads, not {recipe}.")
    for option, given in (("--target", target), ("--channels", channels)):
        if given is not None and recipe != _GATES:
            raise click.UsageError(f"{option}: only gates trains gates, not {recipe}.")
    chosen = network or ("subpath-resnet" if recipe == "sub-paths" else "resnet")
    usual_epochs, usual_rate = (80, 1e-3) if chosen.endswith("vit") else (40, 5e-3)
    options = TrainOptions(
        recipe=recipe,
        network=chosen,
        arguments=parse_arguments(network_args, "--network-arg"),
        epochs=epochs or usual_epochs,
        rate=rate or usual_rate,
        seed=seed,
        threads=threads or (1 if data == "digits" else None),
        heads=heads or 3,
        target=target or 0.25,
        bit_errors=None if bit_errors is None else read_bit_errors(bit_errors),
        channels=channels or 1,
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
    for head in trained.heads:
        printed.print(f"... of the head after {head.name}: {100 * head.accuracy:.2f} %")
    if trained.gated is not None:
        found = trained.gated
        printed.print(f"... with gates:                  {100 * found.accuracy:.2f} %")
        printed.print(f"of the MACs run with gates:      {100 * found.compute:.1f} %")
    files = [trained.checkpoint, out / "log.csv"]
    if trained.heads:
        files.insert(1, heads_path(trained.checkpoint))
    if trained.gated is not None:
        files.insert(1, gates_path(trained.checkpoint))
    printed.print(f"Written: {', '.join(map(str, files))}", soft_wrap=True)


def _changed(path: Path) -> int:
    """Returns when a file was last written, in nanoseconds; 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0
