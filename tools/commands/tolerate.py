"""``skipc tolerate``: how many memory errors the configurations of a bundle stand."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from skipc.tools.console import console, print_json, progress
from skipc.tools.data_options import data_options
from skipc.tools.options import PATH
from skipc.tools.views.tolerance import print_tolerance

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.select.data import DataOptions

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
_LEAST_SAMPLES = 8
_SAMPLES = 2000


@click.command("tolerate")
@click.argument("bundle", type=PATH)
@data_options(
    "Labelled data, as `skipc select --data` takes it, that nothing else has seen.",
    samples=(_LEAST_SAMPLES, _SAMPLES),
    parts="30:50:20",
    shares="choosing, for the bound, and for the report",
    seeded="the samples, their parts, and the errors",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    metavar="POINTS",
    default=1.0,
    help="Of 100 samples at most so many are wrong that are right without errors.",
)
@click.option("--sure", type=_SHARE, metavar="P", default=0.9, help="How sure that must be.")
@click.option(
    "--configuration", metavar="NAME", help="Look at this one alone.  [default: at all]"
)
@click.option(
    "--errors",
    type=PATH,
    metavar="FILE.toml",
    help="Which bits fail how often.  [default: all alike, flipped]",
)
@click.option(
    "--correct", is_flag=True, help="Set to zero what lies outside a tensor's range."
)
@click.option(
    "--partitions",
    type=PATH,
    metavar="FILE.toml",
    help="Memories to put the tensors into: their rate of errors, energy and latency.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path,
    data: DataOptions,
    max_drop: float,
    sure: float,
    configuration: str | None,
    errors: Path | None,
    correct: bool,
    partitions: Path | None,
    as_json: bool,
) -> None:
    """Find the rate of memory errors that the configurations of BUNDLE stand.

    First one rate for all tensors, then one for each, or the cheapest of the memory's
    partitions. Chosen, certified and reported on disjoint parts of labelled DATA. Nothing is
    written, and no damaged file is loaded: a bundle of which a bit is wrong is refused.
    """
    from skipc.compiler.extras import require
    from skipc.compiler.select.data import labelled_parts
    from skipc.compiler.select.data.sketch import check_unseen
    from skipc.compiler.tolerate.analysis import Asked, check_certifiable, tolerance_of
    from skipc.compiler.tolerate.error_model import ErrorModel, read_errors
    from skipc.compiler.tolerate.partitions import read_partitions
    from skipc.compiler.tolerate.routes import check_classifier, chosen_entries
    from skipc.runtime.bundle import Bundle

    for module in ("scipy", "onnxruntime", "onnx_ir"):  # before the work, not after it
        require(module, "select" if module == "scipy" else "compiler")
    opened = Bundle.open(bundle)
    entries = chosen_entries(opened, configuration)
    check_classifier(opened)
    asked = Asked(
        model=ErrorModel() if errors is None else read_errors(errors),
        max_drop=max_drop / 100,
        confidence=sure,
        correct=correct,
        seed=data.seed,
        partitions=() if partitions is None else read_partitions(partitions),
    )
    with progress() as step:
        step("reading the data")
        manifest = opened.manifest
        parts = labelled_parts(data, manifest.inputs, manifest.outputs[0], manifest.dimensions)
        check_certifiable(asked, len(parts[1]))
        seen = manifest.provenance.data_sketches
        check_unseen(parts[1:], seen, "the bound and the report", data.text)
        found = tolerance_of(opened, entries, parts, asked, step)
    if as_json:
        print_json(asdict(found))
    else:
        print_tolerance(console(), found, asked)
