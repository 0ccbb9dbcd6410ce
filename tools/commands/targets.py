"""``skipc targets``: what can be compiled for."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from skipc.tools.console import console, print_json
from skipc.tools.views.profile import print_detected, print_profile, print_profiles

if TYPE_CHECKING:
    from skipc.profiles import Profile


@click.command("targets")
@click.argument("target", required=False)
@click.option("--detect", "detecting", is_flag=True, help="Say which suits this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(target: str | None, detecting: bool, as_json: bool) -> None:
    """List the targets, and whether their engines can be built on this machine.

    With TARGET, a name or the path of a .toml file, show all that is known of that one.
    """
    from skipc.compiler.targets import unavailable_reason
    from skipc.profiles import load_profile, profile_names
    from skipc.profiles.detect import detect

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
    if target is not None:
        profile = load_profile(target)
        reason = unavailable_reason(profile)
        if as_json:
            print_json(_json(profile, reason))
        else:
            print_profile(profile, reason, console())
        return
    profiles = [load_profile(name) for name in profile_names()]
    listed = [(profile, unavailable_reason(profile)) for profile in profiles]
    if as_json:
        print_json([_json(profile, reason) for profile, reason in listed])
    else:
        print_profiles(listed, console())


def _json(profile: Profile, reason: str | None) -> dict[str, object]:
    return {**asdict(profile), "buildable": reason is None, "reason": reason}
