"""``skipc finish``: a bundle's engines, on the machine that will run them or from afar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skipc.tools.console import console, print_json, progress
from skipc.tools.options import PATH, device_from, device_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command("finish")
@click.argument("bundle", type=PATH)
@click.option("--target", default="cpu", show_default=True, help="What to build engines for.")
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path,
    target: str,
    on: str | None,
    on_command: str | None,
    on_options: tuple[str, ...],
    as_json: bool,
) -> None:
    """Build the engines of BUNDLE on this machine and measure their latency.

    With --on, another machine does both and the engines are copied back.

    Needs no torch. Engines that are already there are replaced.
    """
    from skipc.compiler.remote.finish import finish_on
    from skipc.compiler.targets import finish
    from skipc.tools.commands.show import print_engines

    device = device_from(on, on_command, on_options)
    with progress() as step:
        if device is None:
            engines = finish(bundle, target, step)
        else:
            engines = finish_on(device, bundle, target, step)
    if as_json:
        print_json(engines.to_json())
    else:
        print_engines(engines, console())
