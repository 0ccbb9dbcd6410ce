"""Measures every bar, prints the table and writes it to ``benchmarks/``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from pathlib import Path

import click

from skipc.runtime.backends.host import host_key
from skipc.tools.bench import (
    budgets,
    building,
    contention,
    latency,
    loading,
    memory,
    overhead,
    pages,
    selecting,
    subpaths,
    trtbench_loop,
)
from skipc.tools.bench.bars import Bar, write
from skipc.tools.bench.networks import NETWORKS, prepare
from skipc.tools.cli import run_and_exit
from skipc.tools.console import console, table


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks"))
@click.option("--work", type=click.Path(path_type=Path), help="Keep the bundles here.")
@click.option(
    "--network",
    type=click.Choice(
        [
            *(each.name for each in NETWORKS),
            selecting.NAME,
            subpaths.NAME,
            budgets.NAME,
            trtbench_loop.NAME,
        ]
    ),
    help="Measure this one alone.",
)
def main(out: Path, work: Path | None, network: str | None) -> None:
    """Runs the benchmark; takes some minutes and wants a quiet machine."""
    printed = console()
    found = overhead.bars()
    with tempfile.TemporaryDirectory() as temporary:
        for one in NETWORKS:
            if network not in (None, one.name):
                continue
            folder = (work or Path(temporary)) / one.folder
            click.echo(f"{one.name}: building ...", err=True)
            prepare(one, folder)
            found += building.bars(one, folder)
            click.echo(f"{one.name}: memory ...", err=True)
            found += memory.bars(one, folder)
            click.echo(f"{one.name}: latency ...", err=True)
            found += latency.bars(one, folder)
            found.append(loading.bar(one, folder))
            if one is NETWORKS[0]:
                found += pages.bars(one, folder)
        if network in (None, budgets.NAME):
            click.echo(f"{budgets.NAME}: simulated ...", err=True)
            found += budgets.bars()
            one = NETWORKS[0]
            click.echo(f"{one.name}: beside another process ...", err=True)
            found += contention.bars(one, (work or Path(temporary)) / one.folder)
        if network in (None, trtbench_loop.NAME):
            click.echo(f"{trtbench_loop.NAME} ...", err=True)
            place = work or Path(temporary)
            found += trtbench_loop.bars(place / NETWORKS[0].folder, place / "small")
        for part in (selecting, subpaths):
            if network in (None, part.NAME):
                click.echo(f"{part.NAME} ...", err=True)
                found += part.bars((work or Path(temporary)) / part.__name__.split(".")[-1])
    rows = table("network", "what", ">measured", ">bar", "", "note")
    for bar in found:
        rows.add_row(*_cells(bar))
    printed.print(rows)
    write(found, _machine(), out)
    printed.print(f"\nwritten to {out / 'results.md'}", soft_wrap=True)


def _cells(bar: Bar) -> tuple[str, ...]:
    unit = "" if bar.unit == "x" else f" {bar.unit}"
    verdict = "" if not bar.bar else ("met" if bar.met else "MISSED")
    return bar.network, bar.what, f"{bar.value:.3g}{unit}", bar.bar, verdict, bar.note


def _machine() -> str:
    version = importlib.metadata.version("onnxruntime")
    key = host_key("onnxruntime", version)
    torch = importlib.metadata.version("torch")
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python"
        f" {platform.python_version()}, ONNX Runtime {version}, torch {torch}, CPU features:"
        f" {key['cpu_features']}."
    )


if __name__ == "__main__":
    run_and_exit(main, "python -m skipc.tools.bench")
