"""Resident memory of a family, as the proportional set size (PSS) that loading it added.

Each figure comes from a fresh process:
``python -m skipc.tools.bench.memory HOW BUNDLE`` prints the bytes.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skipc.runtime import AdaptiveEngine, Bundle
from skipc.tools.bench.bars import Bar
from skipc.tools.bench.if_graph import IfSession
from skipc.tools.pss import added_bytes, pss_bytes
from skipc.tools.trtbench.loading import plain_session

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from skipc.tools.bench.networks import Network


def bars(network: Network, folder: Path) -> list[Bar]:
    """Returns the memory bars of one network."""
    limit = 1.10 if network.name == "ResNet-50" else 1.15
    six, one = (_measured("ours", folder / name) for name in ("six.skipc", "one.skipc"))
    plain = _measured("plain", folder / "six.skipc")
    IfSession(folder / "six.skipc")  # writes the graph, outside of what is measured
    branching = _measured("if", folder / "six.skipc")
    what = "memory of all six, over the full configuration alone"
    own, plain_mb = f"{six / 1e6:.0f} over {one / 1e6:.0f} MB", f"{plain / 1e6:.0f} MB"
    branching_mb = f"{branching / 1e6:.0f} MB"
    return [
        Bar(network.name, what, six / one, limit, note=own),
        Bar(network.name, "… six plain sessions", plain / one, None, note=plain_mb),
        Bar(network.name, "… one `If` graph", branching / one, None, note=branching_mb),
    ]


def _measured(how: str, bundle: Path) -> float:
    command = [sys.executable, "-m", "skipc.tools.bench.memory", how, str(bundle)]
    runs = [
        int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    return statistics.median(runs)


def _ours(path: Path, case: dict[str, np.ndarray[Any, Any]]) -> object:
    engine = AdaptiveEngine.open(path, threads=1)
    for name in engine.configurations:
        engine.pin(name)
        engine(case)
    return engine


def _plain(path: Path, case: dict[str, np.ndarray[Any, Any]]) -> object:
    graphs = Bundle.open(path).manifest.graphs
    sessions = [plain_session(path / graph.file) for graph in graphs]
    for session in sessions:
        session(case)
    return sessions


def _branching(path: Path, case: dict[str, np.ndarray[Any, Any]]) -> object:
    session = IfSession(path)
    for entry in Bundle.open(path).manifest.configurations:
        session.run(entry.taken("skip"), case)
    return session


_HOW: dict[str, Callable[[Path, dict[str, np.ndarray[Any, Any]]], object]] = {
    "ours": _ours,
    "plain": _plain,
    "if": _branching,
}


def main() -> None:
    """Prints the bytes that loading and running a family one way adds to this process."""
    import onnxruntime  # noqa: F401  # the library itself is not the family's memory

    how, path = sys.argv[1], Path(sys.argv[2])
    case = Bundle.open(path).golden_inputs()[0]
    before = pss_bytes()
    held = _HOW[how](path, case)
    added = added_bytes(before, pss_bytes())
    del held
    if added is None:
        raise RuntimeError("this system does not tell the memory of a process")
    click.echo(added)


if __name__ == "__main__":
    main()
