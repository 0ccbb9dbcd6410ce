"""Builds the engines of the TensorRT targets, one graph after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
    return _Build.of(bundle, profile, options, progress).run(staging, progress)


@dataclass(frozen=True)
class _Build:
    """One run of the builder over a family."""

    bundle: Bundle
    profile: Profile
    library: Library
    gpu: Gpu | None
    store: PlanStore

    @classmethod
    def of(
        cls, bundle: Bundle, profile: Profile, options: TargetOptions, progress: Progress
    ) -> _Build:
        library, manifest = open_library(profile.backend), bundle.manifest
        if not _ahead(profile):
            cuda = open_cuda()
            settings = PlanSettings(options, manifest.batch, stripped=True)
            store = PlanStore(bundle, profile.name, current_host(library, cuda), settings)
            return cls(bundle, profile, library, Gpu(library, cuda), store)
        first = manifest.graphs[0]
        settings = PlanSettings(
            options, manifest.batch, stripped=False, capabilities=profile.compute_capabilities
        )
        progress("trying the compute capabilities")
        possible = possible_capabilities(
            library,
            first.name,
            bundle.graph_file(first),
            settings,
            getattr(progress, "note", progress),
        )
        settings = replace(settings, capabilities=possible)
        store = PlanStore(bundle, profile.name, ahead_host(library, possible), settings)
        return cls(bundle, profile, library, None, store)

    def run(self, staging: Path, progress: Progress) -> Built:
        """Builds what is not there, checks everything, and fills ``staging``."""
        graphs = self.bundle.manifest.graphs
        files: dict[str, Path] = {}
        plans: dict[str, Plan] = {}
        for number, graph in enumerate(graphs, start=1):
            place = f"({number} of {len(graphs)})"
            kept = self.store.find(graph)
            progress(
                f"keeping {graph.name} {place}" if kept else f"building {graph.name} {place}"
            )
            file = kept or self._built(graph, progress)
            if self.gpu is not None:
                if number == 1:
                    self.gpu.warm_up(self.bundle, graph, file)
                progress(f"checking {graph.name} {place}")
                file, plans[graph.name] = self._examined(self.gpu, graph, file, kept, progress)
            files[graph.name] = file
        latencies: dict[str, Latency] = {}
        if self.gpu is not None:
            progress("measuring latency")
            inputs = self.bundle.golden_inputs()[0]
            latencies = self.gpu.latencies(plans, inputs)
        self.store.take({file.name: file for file in files.values()}, staging)
        engines = tuple(self._entry(graph, files, plans, latencies) for graph in graphs)
        return Built(self.store.host, engines)

    def _built(self, graph: GraphEntry, progress: Progress) -> Path:
        """Returns the graph's plan, built now."""
        detail = getattr(progress, "detail", lambda text: None)
        network = parse(self.library, graph.name, self.bundle.graph_file(graph))
        cache = self.store.timing_cache()
        plan = build_plan(
            self.library, graph.name, network, self.store.settings, cache, detail
        )
        return self.store.keep(graph, plan.data, plan.timing_cache)

    def _examined(
        self,
        gpu: Gpu,
        graph: GraphEntry,
        file: Path,
        kept: Path | None,
        progress: Progress,
    ) -> tuple[Path, Plan]:
        """Returns the plan after it passed; one that did not is not kept.

        A plan of an earlier build is built once more before it counts as failed: what it
        depends on beyond its key (a driver, say) may have changed.
        """
        try:
            return file, gpu.examine(self.bundle, graph, file)
        except SkipcError as cause:
            self.store.drop(file)
            if kept is None:
                raise
            progress(f"building {graph.name} again: {cause}")
        except BaseException:
            self.store.drop(file)
            raise
        file = self._built(graph, progress)
        return self._examined(gpu, graph, file, None, progress)

    def _entry(
        self,
        graph: GraphEntry,
        files: dict[str, Path],
        plans: dict[str, Plan],
        latencies: dict[str, Latency],
    ) -> EngineEntry:
        stripped = self.store.settings.stripped
        plan = plans.get(graph.name)
        return EngineEntry(
            graph=graph.name,
            file=files[graph.name].name,
            weights_bytes=graph.weights_bytes if stripped else 0,
            own_bytes=graph.own_bytes if stripped else 0,
            device_bytes=plan.device_bytes if plan else 0,
            workspace_bytes=plan.workspace_bytes if plan else 0,
            latency=(latencies[graph.name],) if graph.name in latencies else (),
        )


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
