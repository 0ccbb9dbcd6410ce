"""``skipc select``: find the configurations worth building."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from skipc.compiler.select.options import Constraints, CostKind, SelectOptions
from skipc.compiler.select.searches import DEFAULT_SEARCH, search_names
from skipc.runtime.errors import choices_text
from skipc.tools.completing import complete_target
from skipc.tools.console import console, print_json, progress, tell
from skipc.tools.data_options import data_options
from skipc.tools.options import (
    PATH,
    check_place,
    checkpoints_argument,
    group,
    models_options,
    no_cache_option,
    open_supernet,
    project_option,
    scaling_options,
)
from skipc.tools.project import ProjectCommand
from skipc.tools.views.selection import print_selection, selection_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.compiler.select.data import DataOptions
    from skipc.tools.options import Models

INTERRUPTED = 128 + signal.SIGINT
_COSTS = ("latency", "macs", "parameters")  # as --help lists them


def _checked_cost(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> CostKind | None:
    """Returns what to minimise.

    Raises:
        click.BadParameter: It is none of them; of energy, what to do instead.
    """
    if value == "energy":
        raise click.BadParameter(
            "skipc does not measure what a configuration takes by itself. Use"
            " --cost latency, macs or parameters; measure the chosen ones on the device"
            " (docs/meters.md) and write 'energy_mj' into front.json."
        )
    if value is not None and value not in _COSTS:
        raise click.BadParameter(f"no cost {value!r}. {choices_text(value, _COSTS)}")
    return None if value is None else CostKind(value)


def _checked_axes(
    context: click.Context, parameter: click.Parameter, value: str
) -> tuple[str, ...]:
    """Returns the axes to decide.

    Raises:
        click.BadParameter: One is none that a search decides, or is named twice.
    """
    from skipc.compiler import axes

    known, found = axes.searchable(), tuple(value.split(","))
    for name in found:
        if name not in known:
            named = name in [axis.key for axis in axes.AXES]
            what = "is decided by no search, but by a front" if named else "is no axis"
            raise click.BadParameter(f"{name!r} {what}. {choices_text(name, known)}")
    if len(set(found)) < len(found):
        raise click.BadParameter(f"{value!r} names an axis twice.")
    return found


_data_group = data_options(
    "Labelled data: a folder with a folder of images per class, a .npz with x and y,"
    " PKG.MODULE:FUNCTION that yields (inputs, targets), 'digits' or 'clutter'.",
    samples=(6, 2000),
    parts="20:40:40",
    shares="re-estimating norms, for selecting, and for the report; with --exits, several"
    " networks or resolutions, after the first, for when they answer: 10:30:30:30",
    more="10:30:30:30",
    seeded="the samples, their parts, and what the search draws",
    of_project=True,
)


_constraints_group = group(
    "constraints",
    Constraints,
    click.option(
        "--max-drop",
        type=click.FloatRange(min=0),
        metavar="POINTS",
        help="Lose at most so many percentage points against the full network.",
    ),
    click.option(
        "--max-latency-ms",
        type=click.FloatRange(min=0, min_open=True),
        metavar="MS",
        help="Choose only what is predicted to be this fast.",
    ),
    click.option(
        "--keep",
        metavar="UNIT",
        multiple=True,
        help="A unit, or a module with several, that is never skipped; may be repeated.",
    ),
    click.option(
        "--also",
        metavar="UNIT",
        multiple=True,
        help="A unit that is a detail of another one and may be skipped; may be repeated.",
    ),
    click.option(
        "--size",
        type=click.IntRange(min=1),
        default=6,
        help="Choose at most so many configurations.",
    ),
)


@click.command("select", ProjectCommand, short_help="Find the configurations worth building.")
@checkpoints_argument
@models_options
@_data_group
@project_option(
    "--metric",
    default="top1",
    help="top1, or PKG.MODULE:FUNCTION(outputs, targets); more is better.",
)
@project_option(
    "--target",
    default="cpu",
    shell_complete=complete_target,
    metavar="TARGET",
    help="What to select for: a name of `skipc targets`, or a profile's path.",
)
@click.option(
    "--cost",
    metavar=f"[{'|'.join(_COSTS)}]",
    callback=_checked_cost,
    help="What to minimise.  [default: latency where it is known, else macs]",
)
@click.option(
    "--norm",
    type=click.Choice(["shared", "scalar", "full"]),
    help="How batch norm adapts to what is skipped.  [default: scalar, or full where an"
    " activation forbids it]",
)
@click.option(
    "--axes",
    default="skip",
    metavar="AXIS,...",
    callback=_checked_axes,
    help="What to decide at once: skip, width, resolution, precision, float32.",
)
@click.option(
    "--search",
    default=DEFAULT_SEARCH,
    metavar=f"[{'|'.join(search_names())}]",
    help="How to search; docs/select.md compares them.",
)
@click.option(
    "--evaluations",
    type=click.IntRange(min=1),
    help="Evaluate at most so many configurations.  [default: 60, or 3 per unit"
    " and step of width;"
    " as many as greedy, beam, exhaustive and stages need]",
)
@click.option(
    "--exits",
    is_flag=True,
    help="Answer early, too, at the heads beside the checkpoint (see `skipc heads`).",
)
@_constraints_group
@scaling_options
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    help="Threads of an evaluation, and of a measured engine.",
)
@click.option("--rows", type=click.IntRange(min=1), default=64, help="Samples per forward.")
@click.option(
    "--memory",
    "memory_bytes",
    callback=lambda context, parameter, gigabytes: int(gigabytes * 1e9),
    type=click.FloatRange(min=0.01),
    default=2.0,
    metavar="GB",
    help="How much activations may take; what one chunk of --rows needs is held anyway.",
)
@click.option("--cache", type=PATH, help="Where scores are kept for the next search.")
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Evaluate on a Ray cluster; 'local' starts one on this machine.",
)
@click.option(
    "--out",
    type=PATH,
    default=Path("front.json"),
    help="Where to write the front; the pictures lie beside it.",
)
@no_cache_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    checkpoints: Mapping[str, Path],
    models: Models,
    norm: str | None,
    data: DataOptions,
    exits: bool,
    cache: Path | None,
    out: Path,
    no_cache: bool,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Find near-Pareto configurations of CHECKPOINT on labelled DATA; write front.json.

    Of several, as in small=a.pt large=b.pt, those of all, and cascades through them. Options
    about a network hold for all of them, or for one: --model small=timm:resnet18.

    Three disjoint parts of the data re-estimate batch norm, select, and report. Ctrl-C ends
    the search and writes the best front found so far.
    """
    from skipc.compiler.extras import require
    from skipc.compiler.norms.statistics import NormMode
    from skipc.compiler.select.searches import find_search
    from skipc.compiler.select.selecting import Given, select
    from skipc.compiler.select.writing import write_selection
    from skipc.profiles import load_profile
    from skipc.tools.views.selection_pictures import write_html, write_png

    options = SelectOptions(
        data=_data(data, exits, _several(len(checkpoints), chosen["axes"])),
        exits=exits,
        norm=None if norm is None else NormMode(norm),
        cache=None if no_cache else cache or _default_cache(),
        **chosen,
    )
    load_profile(options.target)
    find_search(options.search)
    searching = ("pymoo",) if options.search == "nsga2" else ()
    for package in ("matplotlib", "plotly", "scipy", *searching):
        require(package, "select")  # before the search, not after it
    _check_out(out)
    with progress() as step:
        given = {}
        for name, model in models.of(checkpoints).items():
            step(f"reading the checkpoint {name}".strip())
            supernet = open_supernet(checkpoints[name], model, no_cache, step)
            given[name] = Given(supernet, checkpoints[name], model)
        selection = select(given, options, step)
        step("writing the front")
        written = write_selection(out, selection, options)
        pictures = out.with_suffix(".png"), out.with_suffix(".html")
        try:
            write_png(pictures[0], selection)
            write_html(pictures[1], selection)
        except KeyboardInterrupt:
            names = " and ".join(map(str, written))
            tell(f"interrupted: {names} are written, the pictures are not.")
            return INTERRUPTED
    if as_json:
        print_json(selection_json(selection, out))
    else:
        print_selection(selection, (*written, *pictures), console())
    if selection.interrupted:
        networks = selection.networks.values()
        done = sum(len(one.candidates) for one in networks)
        tell(
            f"interrupted after {done} of at most {sum(one.budget for one in networks)}"
            " configurations: this is the best front found so far."
            + ("" if no_cache else " The same command goes on from what is cached.")
        )
        return INTERRUPTED
    return 0


def _data(data: DataOptions, exits: bool, several: bool) -> DataOptions:
    """Returns the data in as many parts as there are uses for them."""
    from skipc.compiler.select.data import EXITS_PARTS, PARTS

    default = EXITS_PARTS if exits or several else PARTS
    context = click.get_current_context()
    if context.get_parameter_source("parts") is ParameterSource.DEFAULT:
        return replace(data, parts=default)
    if len(data.parts) != len(default):
        said, wanted = (":".join(map(str, parts)) for parts in (data.parts, default))
        raise click.UsageError(
            f"--parts {said!r}: {_kind(exits, several)} write {len(default)} shares, e.g."
            f" {wanted}."
        )
    return data


def _several(networks: int, axes: tuple[str, ...]) -> bool:
    """Tells whether routes may lead through several networks, or one at several sizes."""
    from skipc.compiler.axes.resolution import ResolutionAxis

    return networks > 1 or ResolutionAxis.key in axes


def _kind(exits: bool, several: bool) -> str:
    if several:
        return "for several networks or resolutions"
    return "with --exits" if exits else "without --exits"


def _check_out(out: Path) -> None:
    """Checks that front, statistics and pictures can be written, each to a file of its own."""
    from skipc.compiler.bundle.files import check_writable

    check_place("--out", out)
    check_writable(out)
    if out.suffix.lower() in (".png", ".html", ".npz"):
        raise click.UsageError(
            f"--out {out}: this is where the front goes, as JSON; the pictures and the norm"
            f" statistics lie beside it. Write e.g. --out {out.with_suffix('.json')}"
        )


def _default_cache() -> Path:
    from skipc.compiler.extras import require

    return Path(require("platformdirs", "compiler").user_cache_dir("skipc")) / "evaluations"
