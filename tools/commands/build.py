"""``skipc build``: checkpoint and front in, bundle and engines out."""

from __future__ import annotations

import functools
import shlex
from typing import TYPE_CHECKING, Any

import click

from skipc.runtime.errors import SkipcError
from skipc.tools.completing import complete_target
from skipc.tools.console import console, print_json, progress, tell
from skipc.tools.options import (
    PATH,
    checkpoints_argument,
    device_arguments,
    device_options,
    models_options,
    no_cache_option,
    open_supernet,
    project_option,
    scaling_options,
    target_options,
)
from skipc.tools.project import ProjectCommand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from skipc.compiler.remote.connection import Device
    from skipc.compiler.targets.options import TargetOptions
    from skipc.tools.console import Steps
    from skipc.tools.options import Models


@click.command("build", ProjectCommand)
@checkpoints_argument
@click.option("--front", type=PATH, required=True, help="The configurations: front.json.")
@project_option(
    "--target",
    required=True,
    shell_complete=complete_target,
    help="What to compile for; see `skipc targets`.",
)
@models_options
@click.option("--out", type=PATH, help="The bundle's folder.  [default: CHECKPOINT's .skipc]")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is already there.")
@click.option(
    "--data", type=PATH, help="Real inputs (.npy, .npz): verify on the first 4, too."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest error against the reference, over the output's range."
    "  [default: 1e-4; 1e-2 for float16, 3e-2 for bfloat16, 0.1 for int8]",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16", "int8", "int8-dynamic"]),
    help="What to compute in.  [default: the types that the graph has]",
)
@scaling_options
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
@click.option(
    "--calibrate",
    metavar="DATA",
    help="Observe the ranges of activations for int8 on what `skipc select --data` takes.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Leave layers in float32 until int8 loses at most so many points of accuracy on the"
    " data of --calibrate.  [default: all in int8]",
)
@click.option(
    "--prologue",
    metavar="STEPS|FILE",
    help="What goes in front of the networks: an ONNX file, or steps such as"
    " uint8-nhwc,imagenet. The bundle then takes what that takes.",
)
@click.option(
    "--prologue-apart",
    "apart",
    is_flag=True,
    help="Keep it a bundle of its own, for the client's side.",
)
@target_options
@device_options
@no_cache_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    checkpoints: Mapping[str, Path],
    front: Path,
    target: str,
    models: Models,
    precision: str | None,
    norm: str | None,
    tuning: TargetOptions,
    device: Device | None,
    no_cache: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Compile CHECKPOINT: one pruned graph and one engine per configuration of the front.

    Several, as in small=a.pt large=b.pt, become one bundle, for cascades. Options about the
    network hold for all of them, or for one: --model small=timm:resnet18.

    Every subnet is verified against PyTorch running the same configuration; if one differs,
    nothing is written.
    """
    from skipc.compiler.axes.precision import Precision
    from skipc.compiler.build import BuildOptions, build
    from skipc.compiler.extras import require
    from skipc.compiler.norms.statistics import NormMode
    from skipc.compiler.read.sniff import Kind, sniff
    from skipc.compiler.remote.device import check_device
    from skipc.compiler.remote.finish import finish_bundle_on
    from skipc.compiler.targets import builder_for, unavailable_reason
    from skipc.profiles import load_profile
    from skipc.runtime.bundle import Bundle
    from skipc.tools.api import finish_sides, plan_for
    from skipc.tools.commands.show import bundle_json, print_bundle

    given = models.of(checkpoints)
    options = BuildOptions(
        precision=None if precision is None else Precision(precision),
        norm=None if norm is None else NormMode(norm),
        **chosen,
    )
    plan = plan_for(checkpoints, front, target, options, tuning)
    profile, own = load_profile(target), plan.options.profile
    unavailable = unavailable_reason(profile) if device is None else None
    again = shlex.join(["skipc", "finish", str(plan.out), *device_arguments(device)])
    with progress() as step:
        if device is not None:
            builder_for(profile)
            step(f"asking {device.host} for its skipc")
            check_device(device)
        replaced = _targets(plan.out)
        for other in replaced:
            if unavailable is not None or other != profile.name:
                step.note(
                    f"The engines of target {other} go with the bundle that is replaced. Build"
                    f" them again with: skipc finish BUNDLE --target {other}"
                )
        supernets = {}
        for name, checkpoint in checkpoints.items():
            step(f"reading the checkpoint {name}".strip())
            if sniff(checkpoint) is not Kind.ONNX:
                require("torch", "compiler")  # runs the reference, also of a kept export
            supernets[name] = open_supernet(checkpoint, given[name], no_cache, step)

        def finish(folder: Path) -> None:
            bundle = Bundle.open(folder)
            if device is not None:
                finish_bundle_on(device, bundle, profile, own, tuning, step)
                return
            finish_sides(bundle, profile, tuning, step)

        if unavailable is not None:
            build(plan, supernets, step, step.note)
        elif replaced:  # engines that work stay until others are in their place
            engines = functools.partial(_build_before, plan.out, finish, step)
            build(plan, supernets, step, step.note, engines)
        else:
            build(plan, supernets, step, step.note)
            _build_after(plan.out, finish, step, profile.name, again)
        bundle = Bundle.open(plan.out)
    if as_json:
        print_json(bundle_json(bundle))
    else:
        print_bundle(bundle, console())
    if unavailable is not None:
        # Without --json the command for the device is printed with the bundle.
        run = f"\nOn the device run: {again}" if as_json else ""
        tell(f"No engines were built here: {unavailable}{run}")


def _build_before(
    out: Path, finish: Callable[[Path], None], step: Steps, folder: Path
) -> None:
    """Builds the engines of the bundle in ``folder``, which is to replace that at ``out``."""
    from skipc.compiler.errors import TargetError

    kept = f"The bundle at {out} is as it was, with its engines."
    try:
        finish(folder)
    except SkipcError as cause:
        said = str(cause).replace(str(folder), str(out))
        raise TargetError(f"{said}\n{kept}") from cause
    except KeyboardInterrupt:
        step.note(kept)
        raise


def _build_after(
    out: Path, finish: Callable[[Path], None], step: Steps, target: str, again: str
) -> None:
    """Builds the engines of a new bundle, which stays where they cannot be built."""
    from skipc.compiler.errors import TargetError

    try:
        finish(out)
    except (SkipcError, KeyboardInterrupt) as cause:
        done = target in _targets(out)
        state = f"The bundle is written to {out}, {'with its' if done else 'without'} engines."
        if isinstance(cause, SkipcError):
            raise TargetError(
                f"{cause}\n{state}{'' if done else f' Try again with: {again}'}"
            ) from cause
        step.note(f"{state}{'' if done else f' Go on with: {again}'}")
        raise


def _targets(path: Path) -> tuple[str, ...]:
    """Returns the targets that a bundle has engines for; none where it cannot be read."""
    from skipc.runtime.bundle import Bundle

    try:
        return Bundle.open(path).targets()
    except SkipcError:
        return ()
