"""Builds the engines of the TensorRT targets, one graph after the other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.compiler.errors import TargetError
from skipc.compiler.targets import Built
from skipc.compiler.targets.options import Int8Form
from skipc.compiler.targets.tensorrt.device import Gpu, measure_graphs, unexamined
from skipc.compiler.targets.tensorrt.plan import (
    PlanSettings,
    build_plan,
    parse,
    possible_capabilities,
)
from skipc.compiler.targets.tensorrt.sources import graph_sources
from skipc.compiler.targets.tensorrt.store import PlanStore, reusable
from skipc.runtime.backends.cuda import open_cuda
from skipc.runtime.backends.tensorrt.library import ahead_host, current_host, open_library
from skipc.runtime.bundle.engines import EngineEntry
from skipc.runtime.bundle.tensors import corner_sizes
from skipc.runtime.errors import BackendUnavailableError, SkipcError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.compiler.targets import Progress
    from skipc.compiler.targets.options import TargetOptions
    from skipc.compiler.targets.tensorrt.device import Examined
    from skipc.profiles import Profile
    from skipc.runtime.backends.tensorrt.backend import Plan
    from skipc.runtime.backends.tensorrt.library import Library
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.engines import Latency, SizedLatency
    from skipc.runtime.bundle.manifest import ConfigurationEntry, GraphEntry, Manifest

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


def int8_form(profile: Profile) -> Int8Form:
    """Returns int8 activations around 0 and float32 biases, all that TensorRT knows."""
    del profile
    return Int8Form(unsigned=False, integer_bias=False, dynamic=False)


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
    gated = [graph.name for graph in bundle.manifest.graphs if graph.gates]
    if gated:
        raise TargetError(
            f"graph {gated[0]!r}: its units run or not as gates decide, and TensorRT would"
            " compute all of them, whatever they say. Build its configuration for the target"
            " 'cpu', or leave it out of the front."
        )
    for graph in bundle.manifest.graphs:
        _refuse_unknown(graph, bundle.manifest)
    library = open_library(profile.backend)
    ahead = _ahead(profile)
    with tempfile.TemporaryDirectory() as scratch:
        # A stripped engine is given its weights by a piece's file, which goes along.
        sources = graph_sources(bundle, Path(scratch) if ahead else staging)
        gpu: Gpu | None = None
        if ahead:
            settings = _ahead_settings(bundle, library, profile, options, sources, progress)
            host = ahead_host(library, settings.capabilities)
        else:
            cuda = open_cuda()
            settings = PlanSettings(options, bundle.manifest.dimensions, stripped=True)
            gpu, host = Gpu(library, cuda), current_host(library, cuda)
        store = PlanStore(bundle, profile.name, host, settings, sources)
        return _Build(library, gpu, store, progress).run(staging)


def _refuse_unknown(graph: GraphEntry, manifest: Manifest) -> None:
    """Refuses a graph whose outputs' sizes are not known from its inputs': they need room."""
    free = {each.name for each in manifest.dimensions}
    named = {size for spec in graph.inputs for size in spec.shape if isinstance(size, str)}
    largest = {
        n: size for n, size in corner_sizes(manifest.dimensions)[2].items() if n in named
    }
    for spec in (*graph.inputs, *graph.outputs):
        if not named <= free or -1 in spec.shape_at(largest):
            raise TargetError(
                f"graph {graph.name!r}: {spec.name!r} is {spec.kind}, and with TensorRT a free"
                " size must be that of an input, or follow from some. Build for the target"
                " 'cpu', or leave that dimension fixed."
            )


def _ahead_settings(
    bundle: Bundle,
    library: Library,
    profile: Profile,
    options: TargetOptions,
    sources: Mapping[str, Path],
    progress: Progress,
) -> PlanSettings:
    """Returns how plans are built without a GPU, for those that the network runs on."""
    settings = PlanSettings(
        *(options, bundle.manifest.dimensions),
        stripped=False,
        capabilities=profile.compute_capabilities,
    )
    progress("trying the compute capabilities")
    first, note = bundle.manifest.graphs[0].name, getattr(progress, "note", progress)
    possible = possible_capabilities(
        library, first, sources[first], bundle.path, settings, note
    )
    return replace(settings, capabilities=possible)


@dataclass(frozen=True)
class _Build:
    """One run of the builder over a family.

    Attributes:
        library: TensorRT.
        gpu: What plans are examined on; None where there is none.
        store: The plans of earlier builds.
        progress: Told what is being done.
        files: The plans that are ready, by graph.
        kept: The graphs whose plans are of an earlier build.
    """

    library: Library
    gpu: Gpu | None
    store: PlanStore
    progress: Progress
    files: dict[str, Path] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    def run(self, staging: Path) -> Built:
        """Builds what is not there, checks everything, and fills ``staging``."""
        manifest, progress = self.store.bundle.manifest, self.progress
        examined: dict[str, Examined] = {}
        for number, entry in enumerate(manifest.configurations, start=1):
            for graph in manifest.graphs_of(entry):
                self._make(graph)
            if self.gpu is not None:
                if number == 1:
                    self.gpu.warm_up(*next(iter(self._plans(entry).items())))
                progress(f"checking {entry.name} ({number} of {len(manifest.configurations)})")
                examined = {**self._examined(self.gpu, entry), **examined}
        latencies: dict[str, Latency] = {}
        by_size: dict[str, tuple[SizedLatency, ...]] = {}
        if self.gpu is not None:
            progress("measuring latency")
            latencies, by_size = self.gpu.latencies(self.store.bundle, examined)
        self.store.take({file.name: file for file in self.files.values()}, staging)
        engines = tuple(
            replace(
                self._entry(graph, examined.get(graph.name), latencies.get(graph.name)),
                by_size=by_size.get(graph.name, ()),
            )
            for graph in manifest.graphs
        )
        return Built(self.store.host, engines)

    def _make(self, graph: GraphEntry) -> None:
        """Finds a graph's plan, or builds it."""
        if graph.name in self.files:
            return
        graphs = self.store.bundle.manifest.graphs
        kept = self.store.find(graph)
        if kept:
            self.kept.add(graph.name)
        doing = "keeping" if kept else "building"
        self.progress(f"{doing} {graph.name} ({len(self.files) + 1} of {len(graphs)})")
        self.files[graph.name] = kept or self._built(graph)

    def _entry(
        self, graph: GraphEntry, examined: Examined | None, latency: Latency | None
    ) -> EngineEntry:
        stripped, source = self.store.settings.stripped, self.store.sources[graph.name]
        is_piece = source != self.store.bundle.file(graph.file)
        return EngineEntry(
            graph=graph.name,
            file=self.files[graph.name].name,
            weights_bytes=graph.weights_bytes if stripped else 0,
            own_bytes=graph.own_bytes if stripped else 0,
            device_bytes=examined.plan.device_bytes if examined else 0,
            workspace_bytes=examined.plan.workspace_bytes if examined else 0,
            latency=(latency,) if latency else (),
            piece_file=source.name if stripped and is_piece else "",
        )

    def _built(self, graph: GraphEntry) -> Path:
        """Returns the graph's plan, built now."""
        detail = getattr(self.progress, "detail", lambda text: None)
        source, folder = self.store.sources[graph.name], self.store.bundle.path
        network = parse(self.library, graph.name, source, folder)
        cache, settings = self.store.timing_cache(), self.store.settings
        plan = build_plan(self.library, graph.name, network, settings, cache, detail)
        return self.store.keep(graph, plan.data, plan.timing_cache)

    def _plans(self, entry: ConfigurationEntry) -> dict[str, Plan]:
        """Returns the plans of a configuration's graphs."""
        bundle, sources = self.store.bundle, self.store.sources
        return {
            graph.name: unexamined(bundle, graph, sources[graph.name], self.files[graph.name])
            for graph in bundle.manifest.graphs_of(entry)
        }

    def _examined(self, gpu: Gpu, entry: ConfigurationEntry) -> dict[str, Examined]:
        """Returns the plans of a configuration after it passed; else they are not kept.

        Plans of an earlier build are built once more before they count as failed: what they
        depend on beyond their key (a driver, say) may have changed.
        """
        plans, manifest = self._plans(entry), self.store.bundle.manifest
        again = [graph for graph in manifest.graphs_of(entry) if graph.name in self.kept]
        try:
            return gpu.examine(self.store.bundle, entry, plans)
        except SkipcError as cause:
            self._drop(plans)
            if not again:
                raise
            names = ", ".join(graph.name for graph in again)
            self.progress(f"building {names} again: {cause}")
        except BaseException:
            self._drop(plans)
            raise
        for graph in again:
            self.kept.remove(graph.name)
            self.files[graph.name] = self._built(graph)
        return self._examined(gpu, entry)

    def _drop(self, plans: Mapping[str, Plan]) -> None:
        for plan in plans.values():
            self.store.drop(plan.file)


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
