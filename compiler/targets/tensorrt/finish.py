"""Builds the engines of the TensorRT targets, one graph after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skipc.compiler.errors import TargetError
from skipc.compiler.targets import Built
from skipc.compiler.targets.tensorrt.device import Gpu, measure_graphs
from skipc.compiler.targets.tensorrt.plan import (
    PlanSettings,
    build_plan,
    parse,
    possible_capabilities,
)
from skipc.compiler.targets.tensorrt.store import PlanStore, reusable
from skipc.runtime.backends.cuda import open_cuda
from skipc.runtime.backends.tensorrt.library import ahead_host, current_host, open_library
from skipc.runtime.bundle.engines import EngineEntry
from skipc.runtime.errors import BackendUnavailableError, SkipcError

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.targets import Progress
    from skipc.compiler.targets.options import TargetOptions
    from skipc.profiles import Profile
    from skipc.runtime.backends.tensorrt.backend import Plan
    from skipc.runtime.backends.tensorrt.library import Library
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.engines import Latency
    from skipc.runtime.bundle.manifest import GraphEntry

__all__ = [
    "build_engines",
    "measure_graphs",
    "reusable",
    "unavailable_reason",
    "unmeasurable_reason",
]

AHEAD_BACKEND = "tensorrt-rtx"
"""Builds plans without the GPU that they are for."""


def unavailable_reason(profile: Profile) -> str | None:
    """Returns why engines of ``profile`` cannot be built on this machine; None if they can."""
    try:
        open_library(profile.backend)
        return None if _ahead(profile) else _wrong_gpu(profile)
    except BackendUnavailableError as reason:
        return str(reason)


def unmeasurable_reason(profile: Profile) -> str | None:
    """Returns why the GPU here is not one that they are built for; None if it is."""
    try:
        return _wrong_gpu(profile)
    except BackendUnavailableError as reason:
        return str(reason)


def build_engines(
    bundle: Bundle,
    profile: Profile,
    options: TargetOptions,
    staging: Path,
    progress: Progress,
) -> Built:
    """Builds the engines in ``staging``; see ``EngineBuilder``.

    Where a GPU is at hand plans are stripped, refitted, compared with the golden outputs and
    measured. Without one (TensorRT-RTX) they hold their weights and nothing of this is done.

    Raises:
        TargetError: TensorRT cannot build an engine.
        IntegrityError: A graph of the bundle is damaged or reads another file.
        EngineError: An engine cannot be loaded or run.
        NumericsError: An engine is further from the golden outputs than its precision allows.
        KeyboardInterrupt: Ctrl-C; engines that are ready are kept for the next time.
    """
    for entry in bundle.manifest.configurations:
        if entry.only_graph is None:
            raise TargetError(
                f"configuration {entry.name!r}: its route has several stages, which"
                " this skipc builds for target cpu only. Leave it out of the front for"
                f" {profile.name}, or let it end at one exit."
            )
    library, manifest = open_library(profile.backend), bundle.manifest
    gpu: Gpu | None = None
    if _ahead(profile):
        first = manifest.graphs[0]
        settings = PlanSettings(
            options, manifest.batch, stripped=False, capabilities=profile.compute_capabilities
        )
        progress("trying the compute capabilities")
        note, file = getattr(progress, "note", progress), bundle.graph_file(first)
        possible = possible_capabilities(library, first.name, file, settings, note)
        settings = replace(settings, capabilities=possible)
        host = ahead_host(library, possible)
    else:
        cuda = open_cuda()
        settings = PlanSettings(options, manifest.batch, stripped=True)
        gpu, host = Gpu(library, cuda), current_host(library, cuda)
    store = PlanStore(bundle, profile.name, host, settings)
    return _Build(library, gpu, store, progress).run(staging)


@dataclass(frozen=True)
class _Build:
    """One run of the builder over a family."""

    library: Library
    gpu: Gpu | None
    store: PlanStore
    progress: Progress

    def run(self, staging: Path) -> Built:
        """Builds what is not there, checks everything, and fills ``staging``."""
        bundle, progress = self.store.bundle, self.progress
        graphs = bundle.manifest.graphs
        files: dict[str, Path] = {}
        plans: dict[str, Plan] = {}
        for number, graph in enumerate(graphs, start=1):
            place = f"({number} of {len(graphs)})"
            kept = self.store.find(graph)
            progress(f"{'keeping' if kept else 'building'} {graph.name} {place}")
            file = kept or self._built(graph)
            if self.gpu is not None:
                if number == 1:
                    self.gpu.warm_up(bundle, graph, file)
                progress(f"checking {graph.name} {place}")
                file, plans[graph.name] = self._examined(self.gpu, graph, file, kept)
            files[graph.name] = file
        latencies: dict[str, Latency] = {}
        if self.gpu is not None:
            progress("measuring latency")
            latencies = self.gpu.latencies(plans, bundle.golden_inputs()[0])
        self.store.take({file.name: file for file in files.values()}, staging)
        stripped = self.store.settings.stripped
        engines = tuple(
            EngineEntry(
                graph=graph.name,
                file=files[graph.name].name,
                weights_bytes=graph.weights_bytes if stripped else 0,
                own_bytes=graph.own_bytes if stripped else 0,
                device_bytes=plans[graph.name].device_bytes if plans else 0,
                workspace_bytes=plans[graph.name].workspace_bytes if plans else 0,
                latency=(latencies[graph.name],) if latencies else (),
            )
            for graph in graphs
        )
        return Built(self.store.host, engines)

    def _built(self, graph: GraphEntry) -> Path:
        """Returns the graph's plan, built now."""
        detail = getattr(self.progress, "detail", lambda text: None)
        network = parse(self.library, graph.name, self.store.bundle.graph_file(graph))
        cache, settings = self.store.timing_cache(), self.store.settings
        plan = build_plan(self.library, graph.name, network, settings, cache, detail)
        return self.store.keep(graph, plan.data, plan.timing_cache)

    def _examined(
        self, gpu: Gpu, graph: GraphEntry, file: Path, kept: Path | None
    ) -> tuple[Path, Plan]:
        """Returns the plan after it passed; one that did not is not kept.

        A plan of an earlier build is built once more before it counts as failed: what it
        depends on beyond its key (a driver, say) may have changed.
        """
        try:
            return file, gpu.examine(self.store.bundle, graph, file)
        except SkipcError as cause:
            self.store.drop(file)
            if kept is None:
                raise
            self.progress(f"building {graph.name} again: {cause}")
        except BaseException:
            self.store.drop(file)
            raise
        return self._examined(gpu, graph, self._built(graph), None)


def _ahead(profile: Profile) -> bool:
    """Tells whether plans are built for GPUs that need not be here."""
    return profile.backend == AHEAD_BACKEND and bool(profile.compute_capabilities)


def _wrong_gpu(profile: Profile) -> str | None:
    found = open_cuda().device()
    wanted = profile.compute_capabilities
    if wanted and found.compute_capability not in wanted:
        return (
            f"target {profile.name!r} is for GPUs of compute capability {', '.join(wanted)};"
            f" this one ({found.name}) has {found.compute_capability}."
        )
    return None
