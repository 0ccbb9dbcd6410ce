"""``skipc units``: the parts of a network that may be skipped."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from skipc.tools.console import console, count_text, plural, print_json, progress, table
from skipc.tools.options import PATH, model_options, no_cache_option, open_supernet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from skipc.compiler.axes.axis import Offer, Option
    from skipc.compiler.axes.units import Units
    from skipc.compiler.read import ModelOptions
    from skipc.tools.console import Rows


@click.command("units")
@click.argument("checkpoint", type=PATH)
@model_options
@click.option("--all", "everything", is_flag=True, help="Also list other additions.")
@no_cache_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    checkpoint: Path, model: ModelOptions, everything: bool, no_cache: bool, as_json: bool
) -> None:
    """List the units of CHECKPOINT in network order: what `skip` in front.json may name."""
    from skipc.compiler.axes.exits import ExitsAxis
    from skipc.compiler.axes.skip import SkipAxis, units_of
    from skipc.compiler.family import open_family
    from skipc.compiler.heads import read_heads

    with progress() as step:
        step("reading the checkpoint")
        supernet = open_supernet(checkpoint, model, no_cache, step)
        step("exporting the supernet")
        heads = read_heads(checkpoint)
        family = open_family(supernet, heads=heads)
    accuracies = {ExitsAxis.key: {head.name: head.accuracy for head in heads}}
    units = units_of(family)
    others = {key: offer for key, offer in family.offers.items() if key != SkipAxis.key}
    if as_json:
        listed = {
            key: [_option(one, accuracies.get(key, {})) for one in offer.options]
            for key, offer in others.items()
        }
        print_json({**asdict(units), "details": sorted(units.details), "axes": listed})
        return
    _print(units, everything)
    for key, offer in others.items():
        _print_other(key, offer, units, accuracies.get(key, {}))


def _option(option: Option, accuracies: Mapping[str, float]) -> dict[str, object]:
    known = {"accuracy": accuracies[option.name]} if option.name in accuracies else {}
    return {
        "name": option.name,
        "parameters": option.parameters,
        "macs": option.macs,
        **known,
    }


def _print_other(
    key: str, offer: Offer, units: Units, accuracies: Mapping[str, float]
) -> None:
    """Prints what goes with the options of another axis, if anything does."""
    options = [option for option in offer.options if option.parameters or option.macs]
    if options:
        console().print()
        console().print(_table(options, units, key, accuracies))


def _print(units: Units, everything: bool) -> None:
    out = console()
    if units.units:
        out.print(_table(units.units, units, "unit", {}))
    # What lies within another unit goes with it.
    outer = [unit for unit in units.units if not unit.within]
    parameters = sum(unit.parameters for unit in outer)
    macs = sum(unit.macs for unit in outer)
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
    others = plural(len(units.rejected), "further addition")
    if not everything:
        if units.rejected:
            out.print(f"{others} cannot be skipped: --all says why.")
        return
    out.print(f"{others} cannot be skipped{':' if units.rejected else '.'}")
    for item in units.rejected:
        out.print(f"  {item.module or item.join}: {item.reason}", soft_wrap=True)
    if units.constants:
        out.print(f"{units.constants} more add a constant (biases, position embeddings).")


def _table(
    options: Sequence[Option], units: Units, title: str, accuracies: Mapping[str, float]
) -> Rows:
    outer = {unit.name: unit.within for unit in units.units if unit.within}
    nested = any(option.name in outer for option in options)
    more = ["within"] if nested else [">accuracy"] if accuracies else []
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
            *([f"{100 * accuracies[option.name]:.1f} %"] if accuracies else []),
        )
    return rows


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
