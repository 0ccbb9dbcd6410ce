"""Builds the site of the documentation: ``python -m skipc.tools.docsite``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from skipc.compiler.extras import require
from skipc.tools.cli import run_and_exit
from skipc.tools.docsite import DocsError
from skipc.tools.docsite.staging import stage

_ROOT = Path(__file__).resolve().parents[2]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("site"))
def main(out: Path) -> None:
    """Builds the site of the documentation into --out; a warning is an error."""
    if not (_ROOT / "mkdocs.yml").is_file():
        raise DocsError(
            f"{_ROOT} has no mkdocs.yml: the site is built from a checkout of the repository,"
            " not from an installed skipc."
        )
    # mkdocs-material tells of its successor at each build; CONTRIBUTING.md does so once.
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
    commands = require("mkdocs.commands.build", "docs")
    configuration = require("mkdocs.config", "docs")
    exceptions = require("mkdocs.exceptions", "docs")
    with tempfile.TemporaryDirectory() as temporary:
        pages = Path(temporary) / "pages"
        stage(_ROOT, pages)
        try:
            config = configuration.load_config(
                config_file=str(_ROOT / "mkdocs.yml"),
                docs_dir=str(pages),
                site_dir=str(out.resolve()),
                strict=True,
            )
            config.plugins.on_startup(command="build", dirty=False)
            commands.build(config)
            config.plugins.on_shutdown()
        except exceptions.MkDocsException as error:
            raise DocsError(f"the site was not built: {error}") from error
    click.echo(f"Written: {out / 'index.html'}")


if __name__ == "__main__":
    run_and_exit(main, "python -m skipc.tools.docsite")
