"""Measures every bar, prints the table and writes it to ``benchmarks/``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from skipc.runtime.backends.host import host_key
from skipc.tools.bench import (
    against,
    bit_errors,
    budgets,
    dense,
    dimensions,
    disturbed,
    engines,
    exits,
    gates,
    int8,
    keeping,
    modes,
    overhead,
    pages,
    policies,
    prologue,
    resolutions,
    restoring,
    routers,
    selecting,
    serving,
    subpaths,
    trtbench_loop,
    widths,
)
from skipc.tools.bench.harness import Bar, write
from skipc.tools.bench.networks import RESNET50, VIT_B16, Network
from skipc.tools.cli import run_and_exit
from skipc.tools.console import console, table

Part = Callable[[Path], list[Bar]]


def _of(network: Network, *parts: Callable[[Network, Path], list[Bar]]) -> list[Part]:
    """Returns parts that are measured on a network, in the folder of its own."""

    def measured(bars: Callable[[Network, Path], list[Bar]], place: Path) -> list[Bar]:
        return bars(network, network.folder(place))

    return [partial(measured, bars) for bars in parts]


_EACH = (
    *(against.building, against.memory, against.latency, against.loading),
    engines.bars,
)
PARTS: dict[str, list[Part]] = {
    RESNET50.name: _of(RESNET50, *_EACH, pages.bars, gates.bars),
    VIT_B16.name: _of(VIT_B16, *_EACH),
    budgets.NAME: [budgets.bars, *_of(RESNET50, budgets.contention)],
    disturbed.NAME: [disturbed.bars, *_of(RESNET50, disturbed.beside_a_process)],
    keeping.NAME: [keeping.bars],
    restoring.NAME: [restoring.bars],
    modes.NAME: [modes.bars],
    trtbench_loop.NAME: [trtbench_loop.bars],
    exits.NAME: [exits.bars],
    policies.NAME: [policies.bars],
    routers.NAME: [routers.bars],
    selecting.NAME: [selecting.bars],
    subpaths.NAME: [subpaths.bars],
    dense.NAME: [dense.bars],
    dimensions.NAME: [dimensions.bars],
    resolutions.NAME: [*_of(RESNET50, resolutions.bars), resolutions.clutter],
    prologue.NAME: [prologue.bars],
    serving.NAME: [serving.bars],
    bit_errors.NAME: [bit_errors.bars],
    widths.NAME: [*_of(RESNET50, widths.bars), *_of(VIT_B16, widths.bars)],
    int8.NAME: [*_of(RESNET50, int8.bars), *_of(VIT_B16, int8.bars)],
}
"""What makes the bars, by what it is called; each is given the folder for all bundles."""

PAGES: dict[str, Callable[[Path, Path], None]] = {policies.NAME: policies.write_page}
"""What writes a page besides, of what its part left in the folder for all bundles."""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks"))
@click.option("--work", type=click.Path(path_type=Path), help="Keep the bundles here.")
@click.option("--network", type=click.Choice([*PARTS]), help="Measure this one alone.")
def main(out: Path, work: Path | None, network: str | None) -> None:
    """Runs the benchmark; takes some minutes and wants a quiet machine."""
    found = overhead.bars()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        place = work or Path(temporary)
        for part in PARTS if network is None else [network]:
            click.echo(f"{part} ...", err=True)
            for bars in PARTS[part]:
                found += bars(place)
            if part in PAGES:
                PAGES[part](place, out)
    rows = table("network", "what", ">measured", ">bar", "", "note")
    for bar in found:
        rows.add_row(*bar.cells)
    printed = console()
    printed.print(rows)
    write(found, _machine(), out)
    printed.print(f"\nwritten to {out / 'results.md'}", soft_wrap=True)


def _machine() -> str:
    version = importlib.metadata.version("onnxruntime")
    features = host_key("onnxruntime", version)["cpu_features"]
    torch = importlib.metadata.version("torch")
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python"
        f" {platform.python_version()}, ONNX Runtime {version}, torch {torch}, CPU features:"
        f" {features}."
    )


if __name__ == "__main__":
    run_and_exit(main, "python -m skipc.tools.bench")
