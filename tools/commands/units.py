"""``skipc units``: the parts of a network that may be skipped."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from skipc.tools.console import (
    console,
    count_text,
    plural,
    print_json,
    progress,
    table,
)
from skipc.tools.options import PATH, model_options, read_supernet

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.axes.units import UnitSearch


@click.command("units")
@click.argument("checkpoint", type=PATH)
@model_options
@click.option("--all", "everything", is_flag=True, help="Also list other additions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    checkpoint: Path,
    model: str | None,
    model_args: tuple[str, ...],
    inputs: tuple[str, ...],
    batch: str | None,
    output: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """List the units of CHECKPOINT in network order: what `skip` in front.json may name."""
    from skipc.compiler.build import BuildOptions, open_subnets
    from skipc.compiler.norms.mode import NormMode
    from skipc.compiler.norms.statistics import FamilyNorms

    with progress() as step:
        step("reading the checkpoint")
        supernet = read_supernet(checkpoint, model, model_args, inputs, batch, output)
        step("exporting the supernet")
        subnets = open_subnets(supernet, BuildOptions(), FamilyNorms(NormMode.SHARED))
        search = subnets.search
    if as_json:
        print_json(asdict(search))
        return
    _print(search, everything)


def _print(search: UnitSearch, everything: bool) -> None:
    out = console()
    rows = table(">#", "unit", ">parameters", ">share", ">MACs", ">share")
    for index, unit in enumerate(search.units):
        rows.add_row(
            str(index),
            unit.name,
            count_text(unit.parameters),
            _share(unit.parameters, search.total_parameters),
            count_text(unit.macs),
            _share(unit.macs, search.total_macs),
        )
    if search.units:
        out.print(rows)
    parameters = sum(unit.parameters for unit in search.units)
    macs = sum(unit.macs for unit in search.units)
    out.print(
        f"\n{plural(len(search.units), 'unit')}:"
        f" {_share(parameters, search.total_parameters)} of"
        f" {count_text(search.total_parameters)} parameters,"
        f" {_share(macs, search.total_macs)} of {count_text(search.total_macs)} MACs."
    )
    others = plural(len(search.rejected), "further addition")
    if not everything:
        if search.rejected:
            out.print(f"{others} cannot be skipped: --all says why.")
        return
    out.print(f"{others} cannot be skipped{':' if search.rejected else '.'}")
    for item in search.rejected:
        out.print(f"  {item.module or item.join}: {item.reason}", soft_wrap=True)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
