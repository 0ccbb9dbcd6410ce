"""``skipc show``: what a bundle holds."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from skipc.runtime.bundle import Bundle
from skipc.tools.console import console, count_text, plural, print_json, size_text, table
from skipc.tools.options import PATH

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console

    from skipc.runtime.engines import EngineSet
    from skipc.runtime.manifest import TensorSpec


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
    return {
        "path": str(bundle.path),
        "manifest": bundle.manifest.to_json(),
        "engines": {name: bundle.engine_set(name).to_json() for name in bundle.targets()},
    }


def print_bundle(bundle: Bundle, out: Console) -> None:
    """Prints the portable part, then one table per target."""
    manifest = bundle.manifest
    store = next(f for f in manifest.files if f.path == manifest.weights_file)
    out.print(str(bundle.path), style="bold", soft_wrap=True)
    out.print(f"  model    {manifest.provenance.model}")
    if manifest.provenance.norm != "shared":
        out.print(f"  norms    {manifest.provenance.norm}")
    if manifest.provenance.precision != "fp32":
        out.print(f"  computes {manifest.provenance.precision}")
    out.print(f"  inputs   {_specs(manifest.inputs)}")
    out.print(f"  outputs  {_specs(manifest.outputs)}")
    if manifest.batch is not None:
        batch = manifest.batch
        out.print(f"  batch N  {batch.minimum} to {batch.maximum}, typically {batch.typical}")
    tensors = plural(len(manifest.weights), "tensor")
    out.print(f"  weights  {size_text(store.size_bytes)} in {tensors}, each stored once")
    out.print(f"  units    {len(manifest.units)} that may be skipped\n")
    rows = table(
        "configuration", ">skipped", ">accuracy", ">MACs", ">weights", ">own", ">error"
    )
    for entry in manifest.configurations:
        accuracy = entry.metrics.get("accuracy")
        rows.add_row(
            entry.name,
            str(len(entry.skip)),
            "-" if accuracy is None else f"{100 * accuracy:.1f} %",
            count_text(entry.macs),
            size_text(entry.weights_bytes),
            size_text(entry.own_bytes),
            f"{entry.verification.relative_error:.0e}",
        )
    out.print(rows)
    for target in bundle.targets():
        print_engines(bundle.engine_set(target), out)
    if not bundle.targets():
        out.print(
            "\nNo engines yet. On the device that will run them:"
            f" skipc finish {shlex.quote(str(bundle.path))} --target cpu",
            soft_wrap=True,
        )


def print_engines(engines: EngineSet, out: Console) -> None:
    """Prints one target's engines: latency on the host that built them, and sizes."""
    out.print(f"\ntarget {engines.target}", style="bold")
    out.print(f"  backend  {engines.backend}")
    out.print(f"  host     {_host(engines.host)}")
    packed = [file for file in engines.files if file.path == engines.packed_file]
    if packed:
        out.print(f"  weights  {size_text(packed[0].size_bytes)} packed in {packed[0].path}")
    out.print()
    counts = sorted({row.threads for entry in engines.engines for row in entry.latency})
    names = [f">p50/p99 ms\n{plural(count, 'thread')}" for count in counts]
    rows = table("\nconfiguration", *names, ">\nweights", ">\nown")
    for entry in engines.engines:
        by_threads = {row.threads: row for row in entry.latency}
        times = [
            f"{by_threads[count].p50_ms:.2f} / {by_threads[count].p99_ms:.2f}"
            if count in by_threads
            else "-"
            for count in counts
        ]
        rows.add_row(
            entry.configuration,
            *times,
            size_text(entry.weights_bytes),
            size_text(entry.own_bytes),
        )
    out.print(rows)


def _host(host: Mapping[str, str]) -> str:
    """Returns the host key on one line; what has many words is counted."""
    parts = []
    for key, value in host.items():
        words = value.split()
        label = key.replace("_", " ").replace("cpu", "CPU")
        parts.append(f"{len(words)} {label}" if len(words) > 4 else f"{label} {value}")
    return ", ".join(parts)


def _specs(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{s.name} {'x'.join(map(str, s.shape))} {s.dtype}" for s in specs)
