"""Loading one more configuration, ours against a plain session of the same graph.

In a fresh process, as an application would: every configuration is loaded both ways, one
after the other, and stays loaded. (Loading again what was freed before is faster for plain
sessions: they get memory that the process already holds.)
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skipc.runtime import Bundle
from skipc.runtime.backends import open_backend
from skipc.tools.bench.bars import Bar
from skipc.tools.bench.latency import timed_ms
from skipc.tools.trtbench.loading import plain_session

if TYPE_CHECKING:
    from skipc.tools.bench.networks import Network

_PROCESSES = 4


def bar(network: Network, folder: Path) -> Bar:
    """Returns the median of ratios over all but the first configuration of the family."""
    limit = 0.15 if network.name == "ResNet-50" else 0.5
    command = [sys.executable, "-m", "skipc.tools.bench.loading", str(folder / "six.skipc")]
    pairs = []
    for number in range(_PROCESSES):
        # The one that goes second finds warmer caches: they take turns.
        order = "ours" if number % 2 else "plain"
        ended = subprocess.run([*command, order], check=True, capture_output=True, text=True)
        pairs += json.loads(ended.stdout)[1:]
    ours_ms = statistics.median(ours for ours, _ in pairs)
    plain_ms = statistics.median(plain for _, plain in pairs)
    return Bar(
        network.name,
        "loading one more configuration, over a plain session",
        statistics.median(ours / plain for ours, plain in pairs),
        limit,
        note=f"{ours_ms:.1f} over {plain_ms:.0f} ms",
    )


def _pairs(path: Path, ours_first: bool) -> list[tuple[float, float]]:
    bundle = Bundle.open(path)
    backend = open_backend(bundle, bundle.engine_set("cpu"), 1)
    held: list[object] = []
    found = []
    for graph in bundle.manifest.graphs:

        def ours(name: str = graph.name) -> None:
            held.append(backend.load(name))

        def plain(file: str = graph.file) -> None:
            held.append(plain_session(path / file))

        if ours_first:
            pair = (timed_ms(ours), timed_ms(plain))
        else:
            pair = (timed_ms(plain), timed_ms(ours))[::-1]
        found.append(pair)
    return found


if __name__ == "__main__":
    click.echo(json.dumps(_pairs(Path(sys.argv[1]), sys.argv[2] == "ours")))
