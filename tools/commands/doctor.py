"""``skipc doctor``: what is installed, and what can be built and run here."""

from __future__ import annotations

from dataclasses import asdict

import click

from skipc.tools.console import console, print_json


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say what is installed, what can be built and run here, and how to get the rest.

    Nothing is changed. Put its output into a question or a report of an error.
    """
    from skipc.tools.views.doctor import diagnose, print_diagnosis

    found = diagnose()
    if as_json:
        print_json(asdict(found))
    else:
        print_diagnosis(found, console())
