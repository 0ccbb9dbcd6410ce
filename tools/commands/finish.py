"""``skipc finish``: a bundle's engines, on the machine that will run them or from afar."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from skipc.compiler.errors import TargetError
from skipc.compiler.targets import finish, finish_bundle, target_of, unavailable_reason
from skipc.compiler.targets.options import TargetOptions
from skipc.profiles import load_profile
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.records import written
from skipc.runtime.errors import SkipcError, StaleEngineError, sentence
from skipc.tools.console import console, print_json, progress
from skipc.tools.options import PATH, device_options, target_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skipc.compiler.remote.connection import Device
    from skipc.tools.console import Steps


@click.command("finish")
@click.argument("bundle", type=PATH)
@click.option("--target", help="What to build engines for.  [default: as it was built for]")
@target_options
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path,
    target: str | None,
    tuning: TargetOptions,
    device: Device | None,
    as_json: bool,
) -> None:
    """Build the engines of BUNDLE on this machine and measure their latency.

    With --on, another machine does both and the engines are copied back.

    Needs no torch. Engines that are already there are replaced; TensorRT builds only those
    anew whose graph, weights, options, GPU or library changed.
    """
    from skipc.compiler.remote.finish import finish_on
    from skipc.tools.views.engines import print_engines

    with progress() as step:
        if device is None:
            engines = finish(bundle, target, step, tuning)
        else:
            engines = finish_on(device, bundle, target, step, tuning)
    if as_json:
        print_json(written(engines))
    else:
        print_engines(engines, console())


T = TypeVar("T")


def with_fresh_engines(bundle: Path, target: str, step: Steps, action: Callable[[], T]) -> T:
    """Returns what ``action`` does; if the engines are stale, rebuilds them first.

    Args:
        bundle: The bundle's folder.
        target: Whose engines to rebuild: a profile's name, or a path to one.
        step: Told of the rebuilding.
        action: Opens the bundle; called a second time after the rebuilding.

    Raises:
        StaleEngineError: They cannot be rebuilt here; the message says what is missing.
        SkipcError: What ``action`` and ``finish`` raise.
    """
    try:
        return action()
    except StaleEngineError as stale:
        try:
            opened = Bundle.open(bundle)
            profile = load_profile(target_of(opened, target))
            reason = unavailable_reason(profile)
            if reason is not None:
                raise TargetError(reason) from stale
        except SkipcError as cause:
            raise StaleEngineError(
                f"{sentence(str(stale))} They cannot be rebuilt here: {cause}"
            ) from stale
        step.note(f"{stale} Doing so now.")
        finish_bundle(opened, profile, TargetOptions(), step)
    return action()
