"""Time and peak memory of a build, and what it wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime import Bundle
from skipc.tools.bench.bars import Bar
from skipc.tools.bench.harness import ratio
from skipc.tools.bench.networks import build, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.tools.bench.networks import Network


def bars(network: Network, folder: Path, rounds: int = 3) -> list[Bar]:
    """Builds one and six configurations in turns; returns the build's bars."""
    prepare(network, folder)
    spent = [
        (build(network, folder, "one"), build(network, folder, "six")) for _ in range(rounds)
    ]
    slower = ratio((six.wall_s, one.wall_s) for one, six in spent)
    larger = max(six.peak_bytes / one.peak_bytes for one, six in spent)
    last = spent[-1][1]
    note = f"six: {last.wall_s:.0f} s, {last.peak_bytes / 1e6:.0f} MB"
    bundles = [Bundle.open(folder / f"{front}.skipc") for front in ("six", "one")]
    six, _ = bundles
    store_bytes = six.file(six.manifest.weights_file).stat().st_size
    store = store_bytes / six.manifest.graphs[0].weights_bytes
    packed, alone = (
        next(f.size_bytes for f in engines.files if f.path == engines.packed_file)
        for engines in (bundle.engine_set("cpu") for bundle in bundles)
    )
    error = max(graph.verification.relative_error for graph in six.manifest.graphs)
    name, off = network.name, "largest error against PyTorch, over the output's range"
    return [
        Bar(name, "weights.bin, over the full configuration's weights", store, 1.01),
        Bar(name, "packed store, over the full configuration's", packed / alone, 1.01),
        Bar(name, "time to build six, over building one", slower, 2.0, note=note),
        Bar(name, "peak memory of building six, over one", larger, 1.5, note=note),
        Bar(name, off, error, 1e-4),
    ]
