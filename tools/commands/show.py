"""``skipc show``: what a bundle holds."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.measured import all_tables
from skipc.runtime.bundle.records import written
from skipc.runtime.bundle.tensors import BATCH
from skipc.tools.console import (
    console,
    count_text,
    facts,
    plural,
    print_json,
    size_text,
    table,
)
from skipc.tools.options import PATH
from skipc.tools.views.engines import (
    estimates_of,
    print_engines,
    print_estimates,
    print_measured,
)
from skipc.tools.views.prologue import prologue_text
from skipc.tools.views.routes import print_routes

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from skipc.runtime.bundle.manifest import ConfigurationEntry, Manifest
    from skipc.runtime.bundle.tensors import Dimension, TensorSpec
    from skipc.tools.console import Rows


@click.command("show")
@click.argument("bundle", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(bundle: Path, as_json: bool) -> None:
    """Show the configurations and engines of BUNDLE. No weights are read."""
    opened = Bundle.open(bundle)
    if as_json:
        print_json(bundle_json(opened))
    else:
        print_bundle(opened, console())


def bundle_json(bundle: Bundle) -> dict[str, object]:
    """Returns the manifest and every target's engines as one JSON document."""
    found = estimates_of(bundle)
    return {
        "path": str(bundle.path),
        "manifest": written(bundle.manifest),
        "engines": {name: written(bundle.engine_set(name)) for name in bundle.targets()},
        "measured": [written(found) for found in all_tables(bundle)],
        "estimates": None if found is None else asdict(found),
    }


def print_bundle(bundle: Bundle, out: Console) -> None:
    """Prints the portable part, then one table per target."""
    manifest = bundle.manifest
    store = next(f for f in manifest.files if f.path == manifest.weights_file)
    out.print(str(bundle.path), style="bold", soft_wrap=True)
    whose = manifest.provenance
    tensors = plural(len(manifest.weights), "tensor")
    offered = (
        f"{axis}: {plural(len(manifest.options(axis)), 'option')}" for axis in manifest.axes
    )
    adapted = [network for network in manifest.networks if network.norm != "shared"]
    listed = facts(
        *((f"model {one.name}".strip(), one.model) for one in manifest.networks),
        *((f"norms {one.name}".strip(), one.norm) for one in adapted),
        ("computes", "" if whose.precision == "fp32" else whose.precision),
        ("prologue", prologue_text(manifest)),
        ("inputs", _specs(manifest.inputs)),
        ("outputs", _specs(manifest.outputs)),
        *map(_range, manifest.dimensions),
        ("weights", f"{size_text(store.size_bytes)} in {tensors}, each stored once"),
        ("axes", "; ".join(offered) or "none"),
    )
    out.print(listed)
    out.print()
    out.print(_configurations(manifest))
    print_routes(manifest, out)
    for target in bundle.targets():
        print_engines(bundle.engine_set(target), out)
    print_measured(bundle, out)
    estimates = estimates_of(bundle)
    if estimates is not None:
        print_estimates(estimates, manifest.recipe.target, out)
    if manifest.recipe.target not in bundle.targets():
        out.print(
            f"\nNo engines for {manifest.recipe.target} yet. On the device that will run them:"
            f" skipc finish {shlex.quote(str(bundle.path))}\n(from here, over ssh, with --on"
            " USER@HOST)",
            soft_wrap=True,
        )


def _networks(entry: ConfigurationEntry) -> str:
    """Returns the networks that a configuration runs; of a router those of what it names."""
    if entry.routed is not None:
        return "-"
    return " > ".join(part.network for part in entry.parts)


def _configurations(manifest: Manifest) -> Rows:
    run = {part.network for entry in manifest.configurations for part in entry.parts}
    several = len(run) > 1
    routed = any(entry.routed is not None for entry in manifest.configurations)
    rows = table(
        "configuration",
        *(("networks",) if several else ()),
        *(("by input",) if routed else ()),
        *(f">{axis}" for axis in manifest.axes),
        *(">accuracy", ">MACs", ">weights", ">own", ">error"),
    )
    for entry in manifest.configurations:
        accuracy = entry.metrics.get("accuracy")
        graphs = manifest.graphs_of(entry)
        rows.add_row(
            entry.name,
            *((_networks(entry),) if several else ()),
            *((" | ".join(entry.routed.ways) if entry.routed else "-",) if routed else ()),
            *(entry.text(axis) or "-" for axis in manifest.axes),
            "-" if accuracy is None else f"{100 * accuracy:.1f} %",
            count_text(manifest.macs(entry)),
            size_text(sum(graph.weights_bytes for graph in graphs)),
            size_text(sum(graph.own_bytes for graph in graphs)),
            f"{manifest.verification(entry).relative_error:.0e}",
        )
    return rows


def _range(dimension: Dimension) -> tuple[str, str]:
    kind = "batch" if dimension.name == BATCH else "size"
    return f"{kind} {dimension.name}", f"{dimension.text}, typically {dimension.typical}"


def _specs(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{s.name} {'x'.join(map(str, s.shape))} {s.dtype}" for s in specs)
