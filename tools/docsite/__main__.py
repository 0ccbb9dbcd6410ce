"""Stages the pages, then builds the site or serves it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from skipc.compiler.extras import require
from skipc.tools.docsite.staging import stage
from skipc.tools.exits import run_and_exit

_ROOT = Path(__file__).parents[2]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("site"))
@click.option("--serve", metavar="HOST:PORT", help="Serve the site instead of writing it.")
def main(out: Path, serve: str | None) -> None:
    """Builds the site of the documentation; a warning is an error."""
    require("mkdocs", "docs")
    stage(_ROOT, _ROOT / "build" / "pages")
    build = ["build", "--strict", "--quiet", "--site-dir", str(out.resolve())]
    words = build if serve is None else ["serve", "--dev-addr", serve]
    done = subprocess.run([sys.executable, "-m", "mkdocs", *words], cwd=_ROOT, check=False)
    if done.returncode:
        raise click.exceptions.Exit(done.returncode)
    if serve is None:
        click.echo(f"Written: {out / 'index.html'}")


if __name__ == "__main__":
    run_and_exit(main, "python -m skipc.tools.docsite")
