"""Builds the site of the documentation: ``python -m skipc.tools.docsite``."""

from __future__ import annotations

from pathlib import Path

import click

from skipc.tools.docsite.building import build_site
from skipc.tools.exits import run_and_exit

_ROOT = Path(__file__).resolve().parents[2]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("site"))
def main(out: Path) -> None:
    """Builds the site of the documentation into --out; a warning is an error."""
    build_site(_ROOT, out)
    click.echo(f"Written: {out / 'index.html'}")


if __name__ == "__main__":
    run_and_exit(main, "python -m skipc.tools.docsite")
