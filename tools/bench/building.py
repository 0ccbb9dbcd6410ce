"""Time and peak memory of a build, and what it wrote."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.runtime import Bundle
from skipc.tools.bench.bars import Bar
from skipc.tools.bench.networks import Network, build_command

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spent:
    """What one command took."""

    wall_s: float
    peak_bytes: int


def run_and_measure(command: list[str]) -> Spent:
    """Runs a command and returns its wall time and largest resident memory."""
    start_s = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - start_s
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{errors}")
    return Spent(wall_s, usage.ru_maxrss * 1024)


def bars(network: Network, folder: Path, rounds: int = 3) -> list[Bar]:
    """Builds one and six configurations in turns; returns the build's bars."""
    times, peaks = [], []
    checkpoint = folder / "ckpt.pt"
    for _ in range(rounds):
        one = run_and_measure(
            build_command(network, checkpoint, folder / "one.json", folder / "one.skipc")
        )
        six = run_and_measure(
            build_command(network, checkpoint, folder / "six.json", folder / "six.skipc")
        )
        times.append(six.wall_s / one.wall_s)
        peaks.append(six.peak_bytes / one.peak_bytes)
    store, packed, error = _written(folder)
    note = f"six: {six.wall_s:.0f} s, {six.peak_bytes / 1e6:.0f} MB"
    return [
        Bar(network.name, "weights.bin, over the full configuration's weights", store, 1.01),
        Bar(network.name, "packed store, over the full configuration's", packed, 1.01),
        Bar(
            network.name,
            "time to build six, over building one",
            statistics.median(times),
            2.0,
            note=note,
        ),
        Bar(network.name, "peak memory of building six, over one", max(peaks), 1.5, note=note),
        Bar(
            network.name, "largest error against PyTorch, over the output's range", error, 1e-4
        ),
    ]


def _written(folder: Path) -> tuple[float, float, float]:
    six, one = Bundle.open(folder / "six.skipc"), Bundle.open(folder / "one.skipc")
    full = six.manifest.graphs[0]
    store = six.file(six.manifest.weights_file).stat().st_size / full.weights_bytes
    sizes = []
    for bundle in (six, one):
        engines = bundle.engine_set("cpu")
        packed = next(f for f in engines.files if f.path == engines.packed_file)
        sizes.append(packed.size_bytes)
    error = max(graph.verification.relative_error for graph in six.manifest.graphs)
    return store, sizes[0] / sizes[1], error
