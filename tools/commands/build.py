"""``skipc build``: checkpoint and front in, bundle and engines out."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from skipc.runtime.errors import SkipcError
from skipc.tools.console import console, print_json, progress
from skipc.tools.options import (
    PATH,
    device_arguments,
    device_from,
    device_options,
    model_options,
    read_supernet,
    survival_from,
    target_options,
)


@click.command("build")
@click.argument("checkpoint", type=PATH)
@click.option("--front", type=PATH, required=True, help="The configurations: front.json.")
@click.option("--target", required=True, help="What to compile for; see `skipc targets`.")
@model_options
@click.option("--out", type=PATH, help="The bundle's folder.  [default: CHECKPOINT's .skipc]")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is already there.")
@click.option(
    "--data", type=PATH, help="Real inputs (.npy, .npz): verify on the first 4, too."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest error against the reference, over the output's range."
    "  [default: 1e-4; 1e-2 for float16, 3e-2 for bfloat16]",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    help="What to compute in.  [default: the types that the graph has]",
)
@click.option(
    "--residual-scale",
    type=click.Choice(["original", "inverted"]),
    help="How stochastic depth scaled kept branches; 'original' applies the survival"
    " probability now.  [default: as the checkpoint says, else inverted]",
)
@click.option(
    "--survival",
    metavar="UNIT=P",
    multiple=True,
    help="A unit's survival probability, for --residual-scale original; may be repeated.",
)
@click.option(
    "--norm",
    type=click.Choice(["shared", "scalar", "full"]),
    help="How batch norm adapts to what is skipped.  [default: as the front says]",
)
@click.option(
    "--reestimate",
    metavar="DATA",
    help="Estimate norm statistics anew, on what `skipc select --data` takes.",
)
@target_options
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    checkpoint: Path,
    front: Path,
    target: str,
    model: str | None,
    model_args: tuple[str, ...],
    inputs: tuple[str, ...],
    batch: str | None,
    output: str | None,
    out: Path | None,
    overwrite: bool,
    data: Path | None,
    tolerance: float | None,
    precision: str | None,
    residual_scale: str | None,
    survival: tuple[str, ...],
    norm: str | None,
    reestimate: str | None,
    workspace: int | None,
    optimization_level: int | None,
    on: str | None,
    on_command: str | None,
    on_options: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compile CHECKPOINT: one pruned graph and one engine per configuration of the front.

    Every subnet is verified against PyTorch running the same configuration; if one differs,
    nothing is written.
    """
    from skipc.compiler.axes.precision import Precision, check_precision
    from skipc.compiler.build import BuildOptions, build_bundle, bundle_path
    from skipc.compiler.errors import TargetError
    from skipc.compiler.front import read_front
    from skipc.compiler.norms.statistics import NormMode
    from skipc.compiler.remote.device import check_device
    from skipc.compiler.remote.finish import finish_on
    from skipc.compiler.residual_scale import ResidualScale
    from skipc.compiler.targets import finish, unavailable_reason
    from skipc.compiler.targets.options import TargetOptions
    from skipc.profiles import load_profile
    from skipc.runtime.backends.tensorrt.library import BACKENDS as TENSORRT
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import Recipe
    from skipc.tools.commands.show import bundle_json, print_bundle

    # What is cheap to get wrong is checked before the network is read.
    profile = load_profile(target)
    options = BuildOptions(
        out=out,
        data=data,
        tolerance=tolerance,
        precision=None if precision is None else Precision(precision),
        residual_scale=None if residual_scale is None else ResidualScale(residual_scale),
        survival=survival_from(survival),
        norm=None if norm is None else NormMode(norm),
        reestimate=reestimate,
        overwrite=overwrite,
        recipe=Recipe(profile.name, "", workspace, optimization_level),
        profile=Path(target) if target.endswith(".toml") else None,
    )
    if profile.backend not in TENSORRT:
        TargetOptions(workspace, optimization_level).refuse(profile)
    if options.precision is not None:
        check_precision(options.precision, profile.precisions, profile.name)
    device = device_from(on, on_command, on_options)
    unavailable = unavailable_reason(profile) if device is None else None
    read_front(front)
    bundle_path(checkpoint, options)
    with progress() as step:
        if device is not None:
            step(f"asking {device.connection.host} for its skipc")
            check_device(device)
        for other in _other_targets(bundle_path(checkpoint, options), profile.name):
            step.note(
                f"The engines of target {other} go with the bundle that is replaced. Build"
                f" them again with: skipc finish BUNDLE --target {other}"
            )
        step("reading the checkpoint")
        supernet = read_supernet(checkpoint, model, model_args, inputs, batch, output)
        path = build_bundle(supernet, checkpoint, front, options, step, step.note)
        again = shlex.join(["skipc", "finish", str(path), *device_arguments(device)])
        if unavailable is None:
            try:
                if device is None:
                    finish(path, None, step)
                else:
                    finish_on(device, path, None, step)
            except SkipcError as cause:
                raise TargetError(
                    f"{cause}\nThe bundle is written to {path}, without engines. Try again"
                    f" with: {again}"
                ) from cause
            except KeyboardInterrupt:
                step.note(
                    f"The bundle is written to {path}, without engines. Go on with: {again}"
                )
                raise
    bundle = Bundle.open(path)
    if as_json:
        print_json(bundle_json(bundle))
    else:
        print_bundle(bundle, console())
    if unavailable is not None:
        # Without --json the command for the device is printed with the bundle.
        run = f"\nOn the device run: {again}" if as_json else ""
        click.echo(f"No engines were built here: {unavailable}{run}", err=True)


def _other_targets(path: Path, target: str) -> list[str]:
    """Returns the targets besides ``target`` that a bundle to be replaced has engines for."""
    from skipc.runtime.bundle import Bundle

    try:
        return [name for name in Bundle.open(path).targets() if name != target]
    except SkipcError:
        return []  # none there, or one that cannot be read
