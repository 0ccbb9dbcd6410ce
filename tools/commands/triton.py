"""``skipc triton``: a bundle as a model of NVIDIA's Triton server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skipc.runtime import AdaptiveEngine, Budget, Bundle
from skipc.tools.commands.finish import with_fresh_engines
from skipc.tools.console import console, print_prose, progress
from skipc.tools.options import PATH, target_name

if TYPE_CHECKING:
    from pathlib import Path


@click.command("triton")
@click.argument("bundle", type=PATH)
@click.option(
    "--out",
    type=PATH,
    required=True,
    metavar="REPOSITORY",
    help="The model repository: the folder that tritonserver is given.",
)
@click.option(
    "--latency-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="What a call may take, where no request says less.",
)
@click.option("--min-accuracy", type=float, help="Run no configuration below it.")
@click.option("--configuration", metavar="NAME", help="Run this one, whatever is asked.")
@click.option(
    "--wait-ms",
    type=click.FloatRange(min=0),
    default=0.0,
    help="How long Triton waits for more requests to make a batch of.",
)
@click.option("--target", help="Whose engines to use.  [default: the only ones there]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each call.")
@click.option("--overwrite", is_flag=True, help="Replace a model that is already there.")
def command(
    bundle: Path,
    out: Path,
    latency_ms: float | None,
    min_accuracy: float | None,
    configuration: str | None,
    wait_ms: float,
    target: str | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Write a model of BUNDLE into a Triton model repository, for its python backend.

    The model holds the bundle and the runtime; what runs Triton needs NumPy and the library
    of the engines beside it, and no skipc.
    """
    from skipc.tools.serve.triton import ModelOptions, write_model

    opened = Bundle.open(bundle)
    name = opened.engine_set(None if target is None else target_name(opened, target)).target
    budget = Budget(latency_ms=latency_ms, min_accuracy=min_accuracy)

    def checked() -> None:
        with AdaptiveEngine.open(bundle, budget, name, threads) as engine:
            engine.pin(configuration)

    with progress() as step:
        step("loading the engines")
        with_fresh_engines(bundle, name, step, checked)
        step("writing the model")
        options = ModelOptions(name, latency_ms, min_accuracy, configuration, threads, wait_ms)
        place = write_model(Bundle.open(bundle), out, options, overwrite)
    print_prose(
        console(), f"{place} is written. Serve it: tritonserver --model-repository {out}"
    )
