"""``skipc finish``: a bundle's engines, on the machine that will run them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skipc.tools.console import console, print_json, progress
from skipc.tools.options import PATH

if TYPE_CHECKING:
    from pathlib import Path


@click.command("finish")
@click.argument("bundle", type=PATH)
@click.option("--target", default="cpu", show_default=True, help="What to build engines for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(bundle: Path, target: str, as_json: bool) -> None:
    """Build the engines of BUNDLE on this machine and measure their latency.

    Needs no torch. Engines that are already there are replaced.
    """
    from skipc.compiler.targets import finish
    from skipc.tools.commands.show import print_engines

    with progress() as step:
        engines = finish(bundle, target, step)
    if as_json:
        print_json(engines.to_json())
    else:
        print_engines(engines, console())
