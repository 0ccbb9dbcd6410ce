"""``skipc report``: a bundle and its measurements as one page."""

from __future__ import annotations

from pathlib import Path

import click

from skipc.tools.console import console
from skipc.tools.options import PATH, check_place


@click.command("report")
@click.argument("bundle", type=PATH)
@click.argument("results", type=PATH, nargs=-1)
@click.option(
    "--out",
    "-o",
    type=PATH,
    help="The page.  [default: NAME.report.html in the current folder]",
)
def command(bundle: Path, results: tuple[Path, ...], out: Path | None) -> None:
    """Show BUNDLE, and what was measured of it, as one HTML page.

    RESULTS are files that `trtbench --json` wrote; without any, the latency tables of the
    bundle's engines are shown. The page holds all that it needs and loads nothing. A page that
    is already there is replaced.
    """
    from skipc.compiler.bundle.files import write_whole
    from skipc.compiler.extras import require
    from skipc.tools.report.page import page_of
    from skipc.tools.report.study import read_study

    page = _page(bundle, results, out)
    for package in ("plotly.offline", "onnx"):
        require(package, "report")  # before anything is read
    study = read_study(bundle, results, page)
    write_whole(page, page_of(study).encoded("report"))
    console().print(f"Written: {page}", soft_wrap=True)


def _page(bundle: Path, results: tuple[Path, ...], out: Path | None) -> Path:
    """Returns where to write, checked before anything is read."""
    page = out
    if page is None:
        page = Path(f"{bundle.resolve().name.removesuffix('.skipc') or 'bundle'}.report.html")
    if page.suffix != ".html":
        raise click.UsageError(f"--out {page}: write to a .html file.")
    check_place("--out", page)
    if any(page.resolve() == result.resolve() for result in results):
        raise click.UsageError(f"--out {page}: this would replace a result.")
    if bundle.resolve() in page.resolve().parents:
        raise click.UsageError(
            f"--out {page}: this is inside the bundle, which is not to be changed. Write the"
            " page beside it."
        )
    return page
