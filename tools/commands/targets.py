"""``skipc targets``: what can be compiled for."""

from __future__ import annotations

from dataclasses import asdict

import click

from skipc.tools.completing import complete_target
from skipc.tools.console import console, print_json
from skipc.tools.views.profile import (
    print_detected,
    print_modes,
    print_profile,
    print_profiles,
    print_restored,
)


@click.command("targets")
@click.argument("target", required=False, shell_complete=complete_target)
@click.option("--detect", "detecting", is_flag=True, help="Say which suits this machine.")
@click.option(
    "--modes", "listing_modes", is_flag=True, help="List this machine's power modes."
)
@click.option(
    "--restore",
    "restoring",
    is_flag=True,
    help="With --modes: put back the power mode that a killed process changed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    target: str | None, detecting: bool, listing_modes: bool, restoring: bool, as_json: bool
) -> None:
    """List the targets, and whether their engines can be built on this machine.

    With TARGET, a name or the path of a .toml file, show all that is known of that one.
    """
    from skipc.compiler.targets import unavailable_reason
    from skipc.profiles import load_profile, profile_names
    from skipc.profiles.detect import detect
    from skipc.runtime.modes import restore_modes

    if restoring:
        if not listing_modes or as_json:
            raise click.UsageError("--restore: write skipc targets --modes --restore.")
        print_restored(restore_modes(), console())
        return
    if listing_modes:
        _list_modes("--detect" if detecting else target, as_json)
        return
    if detecting:
        if target is not None:
            raise click.UsageError(
                f"--detect finds the target, but {target!r} is given. Leave one of them out."
            )
        found = detect()
        if as_json:
            print_json(asdict(found))
        else:
            print_detected(found, console())
        return
    profiles = map(load_profile, profile_names() if target is None else [target])
    listed = [(profile, unavailable_reason(profile)) for profile in profiles]
    if as_json:
        documents = [
            {**asdict(profile), "buildable": reason is None, "reason": reason}
            for profile, reason in listed
        ]
        print_json(documents if target is None else documents[0])
    elif target is None:
        print_profiles(listed, console())
    else:
        print_profile(*listed[0], console())


def _list_modes(other: str | None, as_json: bool) -> None:
    """Lists what caps power and clocks here; ``other`` is what was asked for besides."""
    from skipc.runtime.modes import offered

    if other is not None:
        raise click.UsageError(
            f"--modes lists what this machine offers, but {other!r} is given. Leave one of"
            " them out."
        )
    found = offered()
    if as_json:
        print_json([asdict(each) for each in found])
    else:
        print_modes(found, console())
