"""``skipc targets``: what can be compiled for."""

from __future__ import annotations

from dataclasses import asdict

import click

from skipc.tools.console import console, print_json, table


@click.command("targets")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the targets, and whether their engines can be built on this machine."""
    from skipc.compiler.targets import builder_for
    from skipc.profiles import load_profile, profile_names

    profiles = [load_profile(name) for name in profile_names()]
    reasons = [builder_for(profile).unavailable_reason(profile) for profile in profiles]
    if as_json:
        print_json(
            [
                {**asdict(profile), "buildable": reason is None, "reason": reason}
                for profile, reason in zip(profiles, reasons, strict=True)
            ]
        )
        return
    rows = table("target", "backend", "here", "description")
    for profile, reason in zip(profiles, reasons, strict=True):
        rows.add_row(
            profile.name,
            profile.backend,
            "no" if reason else "yes",
            profile.description,
        )
    out = console()
    out.print(rows)
    for profile, reason in zip(profiles, reasons, strict=True):
        if reason is not None:
            out.print(f"{profile.name} cannot be built here: {reason}", soft_wrap=True)
