"""``skipc trace``: what an engine did over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skipc.tools.console import console, print_json, tell
from skipc.tools.options import PATH, check_place
from skipc.tools.trace.summary import print_trace, sentences, trace_json

if TYPE_CHECKING:
    from pathlib import Path

_PACKAGES = {".png": "matplotlib", ".html": "plotly"}


@click.command("trace")
@click.argument("file", type=PATH)
@click.option(
    "--out",
    type=PATH,
    help="The picture: a .png or a .html file.  [default: both, beside FILE]",
)
@click.option("--no-picture", is_flag=True, help="Only print.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path, out: Path | None, no_picture: bool, as_json: bool) -> None:
    """Draw and sum up what an engine did: the trace in FILE.

    Budget, prediction, latency, configuration and energy of each call. docs/traces.md says
    how an application writes a trace. Pictures that are already there are replaced.
    """
    from skipc.compiler.extras import require
    from skipc.runtime.call.trace import read_trace
    from skipc.tools.trace.page import write_html
    from skipc.tools.trace.picture import write_png
    from skipc.tools.trace.summary import summary_of

    if no_picture and out is not None:
        raise click.UsageError(f"--out {out} and --no-picture: give one of the two.")
    pictures = [] if no_picture else _pictures(file, out)
    for path in pictures:
        require(_PACKAGES[path.suffix], "report")  # before a large file is read
    trace = read_trace(file)
    summary = summary_of(trace)
    for path in pictures:
        if path.suffix == ".png":
            write_png(path, trace, " ".join(sentences(summary)))
        else:
            write_html(path, trace, summary)
    if trace.cut_short:
        tell(
            f"{file} ends within a line, as if its writer had been stopped: the last call is"
            " missing."
        )
    if as_json:
        print_json(trace_json(file, summary, pictures))
    else:
        print_trace(summary, pictures, console())


def _pictures(file: Path, out: Path | None) -> list[Path]:
    """Returns the pictures to write, checked before anything is read."""
    if out is None:
        found = [file.with_suffix(suffix) for suffix in _PACKAGES] if file.name else []
    else:
        found = [out]
    for path in found:
        if path.suffix not in _PACKAGES:
            raise click.UsageError(f"--out {path}: write to a .png or .html file.")
        if path.resolve() == file.resolve():
            raise click.UsageError(
                f"the picture {path} would replace the trace itself. Say where to write it:"
                " --out PICTURE.png"
            )
        check_place("--out", path)
    return found
