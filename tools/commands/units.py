"""``skipc units``: the parts of a network that may be skipped."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, cast

import click

from skipc.tools.console import console, count_text, plural, print_json, progress, table
from skipc.tools.options import (
    PATH,
    check_place,
    model_options,
    no_cache_option,
    open_supernet,
)
from skipc.tools.project import ProjectCommand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from skipc.compiler.axes.axis import Option
    from skipc.compiler.axes.units import Units
    from skipc.compiler.axes.width import WidthOffer
    from skipc.compiler.family import Family
    from skipc.compiler.read import ModelOptions
    from skipc.tools.console import Rows

    _More = tuple[str, Mapping[str, float], Callable[[float], str]]
    """What else is known of options: the column's title, a number by option, its text."""
    _Known = dict[str, _More]

_NOTHING: _More = ("", {}, str)


@click.command("units", ProjectCommand)
@click.argument("checkpoint", type=PATH)
@model_options
@click.option("--all", "everything", is_flag=True, help="Also list other joins.")
@click.option(
    "--picture", type=PATH, metavar="FILE.svg", help="Draw units, heads and channels, too."
)
@no_cache_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    checkpoint: Path,
    model: ModelOptions,
    everything: bool,
    picture: Path | None,
    no_cache: bool,
    as_json: bool,
) -> None:
    """List the units of CHECKPOINT in network order: what `skip` in front.json may name.

    Also the channels that `width` may name, the heads for `exits`, and the gates.
    """
    from skipc.compiler.axes.exits import ExitsAxis
    from skipc.compiler.axes.gates import GatesAxis
    from skipc.compiler.axes.skip import SkipAxis, units_of
    from skipc.compiler.axes.width import WidthAxis
    from skipc.compiler.bundle.files import write_whole
    from skipc.compiler.family import open_family
    from skipc.compiler.gates import read_gates
    from skipc.compiler.heads import read_heads
    from skipc.tools.views.unit_strip import units_svg

    if picture is not None:
        check_place("--picture", picture)
        if picture.suffix != ".svg":
            raise click.UsageError(f"--picture {picture}: write to a .svg file.")
    with progress() as step:
        step("reading the checkpoint")
        supernet = open_supernet(checkpoint, model, no_cache, step)
        step("exporting the supernet")
        heads, gates = read_heads(checkpoint), read_gates(checkpoint)
        family = open_family(supernet, heads=heads, gates=gates)
    accuracies = {head.name: head.accuracy for head in heads}
    known_gates = () if gates is None else gates.gates
    rates = {
        name: rate
        for gate in known_gates
        for name, rate in zip(gate.decided, gate.rates, strict=True)
    }
    groups = cast("WidthOffer", family.offers[WidthAxis.key]).groups
    channels = {group.name: group.channels for group in groups}
    known: _Known = {
        ExitsAxis.key: ("accuracy", accuracies, lambda found: f"{100 * found:.1f} %"),
        GatesAxis.key: ("runs for", rates, lambda found: f"{100 * found:.0f} %"),
        WidthAxis.key: ("channels", channels, lambda found: f"{found:g}"),
    }
    units = units_of(family)
    if picture is not None:
        write_whole(picture, units_svg(units, accuracies, channels).encode())
    others = {key: o.options for key, o in family.offers.items() if key != SkipAxis.key}
    others[WidthAxis.key] = groups
    if as_json:
        listed = {
            key: [_option(one, known.get(key, _NOTHING)) for one in options]
            for key, options in others.items()
        }
        print_json(
            {
                "units": [asdict(unit) for unit in units.units],
                "rejected": [asdict(rejected) for rejected in units.rejected],
                "total_parameters": units.total_parameters,
                "total_macs": units.total_macs,
                "constants": units.constants,
                "details": sorted(units.details),
                "axes": listed,
            }
        )
        return
    _print(units, _gone(family, units), everything)
    for key, options in others.items():
        _print_other(key, options, units, known.get(key, _NOTHING))


def _option(option: Option, more: _More) -> dict[str, object]:
    title, numbers, _ = more
    known = {title: numbers[option.name]} if option.name in numbers else {}
    return {
        "name": option.name,
        "parameters": option.parameters,
        "macs": option.macs,
        **known,
    }


def _print_other(key: str, listed: Sequence[Option], units: Units, more: _More) -> None:
    """Prints what goes with the options of another axis, if anything does."""
    options = [option for option in listed if option.parameters or option.macs]
    if options:
        console().print()
        console().print(_table(options, units, key, more))


def _gone(family: Family, units: Units) -> tuple[int, int]:
    """Returns the parameters and operations that go with all units."""
    from skipc.compiler.axes.skip import SkipAxis
    from skipc.compiler.graph.costs import parameters, total_macs

    if units.dense:  # what one reads of another goes with either
        rest = family.structure({SkipAxis.key: units.units}).model.graph
        gone = units.total_parameters - parameters(rest)
        return gone, units.total_macs - total_macs(rest)
    # What lies within another unit goes with it.
    outer = [unit for unit in units.units if not unit.within]
    return sum(unit.parameters for unit in outer), sum(unit.macs for unit in outer)


def _print(units: Units, gone: tuple[int, int], everything: bool) -> None:
    out = console()
    if units.units:
        out.print(_table(units.units, units, "unit", _NOTHING))
    parameters, macs = gone
    out.print(
        f"\n{plural(len(units.units), 'unit')}:"
        f" {_share(parameters, units.total_parameters)} of"
        f" {count_text(units.total_parameters)} parameters,"
        f" {_share(macs, units.total_macs)} of {count_text(units.total_macs)} MACs."
    )
    if units.details:
        out.print(
            f"{plural(len(units.details), 'unit')} within others are details of them:"
            " `skipc select` tries them only with --also."
        )
    others = plural(len(units.rejected), "further join")
    if not everything:
        if units.rejected:
            out.print(f"{others} cannot be skipped: --all says why.")
        return
    out.print(f"{others} cannot be skipped{':' if units.rejected else '.'}")
    for item in units.rejected:
        out.print(f"  {item.module or item.join}: {item.reason}", soft_wrap=True)
    if units.constants:
        out.print(f"{units.constants} more add a constant (biases, position embeddings).")


def _table(options: Sequence[Option], units: Units, title: str, known: _More) -> Rows:
    outer = {unit.name: unit.within for unit in units.units if unit.within}
    nested = any(option.name in outer for option in options)
    name, numbers, text = known
    more = ["within"] if nested else [f">{name}"] if numbers else []
    rows = table(">#", title, ">parameters", ">share", ">MACs", ">share", *more)
    for index, option in enumerate(options):
        rows.add_row(
            str(index),
            option.name,
            count_text(option.parameters),
            _share(option.parameters, units.total_parameters),
            count_text(option.macs),
            _share(option.macs, units.total_macs),
            *([outer.get(option.name, "")] if nested else []),
            *([text(numbers[option.name])] if numbers else []),
        )
    return rows


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
