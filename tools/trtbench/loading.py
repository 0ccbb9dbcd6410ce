"""Loading what is measured: how long it takes, and what memory it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.runtime.backends.phases import LoadTimes
from skipc.runtime.backends.tensorrt.backend import phased_backend
from skipc.runtime.load.opening import load_all
from skipc.tools.trtbench.report import DeviceShare, Measured, Memory, Share

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from skipc.runtime.backends import Engine
    from skipc.runtime.load.residency import Residency
    from skipc.tools.trtbench.measuring import OpenBundle

_ROLLUP = Path("/proc/self/smaps_rollup")
_LEAST_MS = 1e-6  # where the clock did not move


def load_family(
    opened: OpenBundle, stack: ExitStack
) -> tuple[Mapping[str, Engine], Mapping[str, Measured]]:
    """Loads each graph once and calls each configuration once; ``stack`` closes the engines.

    Returns:
        The engines by graph, and by configuration what loading it took.
    """
    engines: dict[str, Engine] = {}

    def load(graph: str) -> Engine:
        engines[graph] = opened.backend.load(graph)
        return engines[graph]

    residency = opened.family.residency(load)
    stack.callback(residency.close)
    return engines, {name: _load(opened, name, residency) for name in opened.family.routes}


def _load(opened: OpenBundle, name: str, residency: Residency[Engine]) -> Measured:
    """Loads what is not yet loaded of a configuration, and makes a call."""
    phased, now_ns = phased_backend(opened.backend), opened.clock.now_ns
    new = [graph for graph in opened.graphs[name] if not residency.ready(graph)]
    alone = replace(opened.family, routes={name: opened.family.routes[name]})
    free_bytes = 0 if phased is None else phased.device_free_bytes()
    runs, before, start_ns = opened.runs(residency), pss_bytes(), now_ns()
    called_ms = load_all(alone, residency, runs.warm_up, opened.cases[0], 1, now_ns)[name]
    load_ms = (now_ns() - start_ns) / 1e6 - called_ms
    own_bytes, host, parts, taken_bytes = added_bytes(before, pss_bytes()), None, None, 0
    if own_bytes is not None and opened.backend_bytes is not None:
        host = Share(own_bytes, opened.backend_bytes)
    if phased is not None:
        taken_bytes = max(free_bytes - phased.device_free_bytes(), 0)
        times = [phased.load_times(graph) for graph in new]
        refits_ms = [each.refit_ms for each in times if each.refit_ms is not None]
        read_ms = sum(each.deserialize_ms for each in times)
        parts = LoadTimes(read_ms, sum(refits_ms) if refits_ms else None)
    return Measured(
        name=name,
        graphs=opened.graphs[name],
        accuracy=opened.bundle.manifest.configuration(name).metrics.get("accuracy"),
        memory=_memory(opened, name, host, taken_bytes),
        load_ms=max(load_ms, _LEAST_MS),
        load_parts=parts,
        first_call_ms=max(called_ms, _LEAST_MS),
    )


def _memory(opened: OpenBundle, name: str, host: Share | None, taken_bytes: int) -> Memory:
    graphs, engines, manifest = opened.graphs, opened.engines, opened.bundle.manifest
    others = {graph for other in graphs if other != name for graph in graphs[other]}
    sizes = {file.path: file.size_bytes for file in engines.files} if engines else {}
    own_bytes = all_bytes = device_bytes = workspace_bytes = 0
    for graph in graphs[name]:
        weights = manifest.graph(graph) if engines is None else engines.engine(graph)
        # A plan that holds its weights itself: there is no telling them from the rest.
        whole = 0 if weights.weights_bytes else sizes.get(weights.file, 0)
        all_bytes += weights.weights_bytes + whole
        own_bytes += 0 if graph in others else weights.own_bytes + whole
        if engines is not None:
            device_bytes += engines.engine(graph).device_bytes
            workspace_bytes = max(workspace_bytes, engines.engine(graph).workspace_bytes)
    device = DeviceShare(device_bytes, workspace_bytes, taken_bytes)
    return Memory(Share(own_bytes, all_bytes - own_bytes), host, device)


def pss_bytes(rollup: Path = _ROLLUP) -> int | None:
    """Returns this process's proportional set size; None where the system does not tell.

    A page that several mappings share counts once, divided among them: what a process costs.
    ``rollup`` is the file of Linux that tells it (proc(5), ``smaps_rollup``).
    """
    try:
        lines = rollup.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def added_bytes(before: int | None, after: int | None) -> int | None:
    """Returns by how much memory grew: 0 where it shrank, None where it cannot be told."""
    return None if before is None or after is None else max(after - before, 0)
