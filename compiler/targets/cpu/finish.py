"""Builds the engines of target ``cpu``, one graph after the other."""

from __future__ import annotations

import importlib.util
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import TargetError
from skipc.compiler.extras import require
from skipc.compiler.targets import Built
from skipc.compiler.targets.cpu.optimized import UnsuitedError
from skipc.compiler.targets.cpu.parts import optimized_parts
from skipc.compiler.targets.cpu.probe import measure_graphs
from skipc.compiler.targets.golden import check_configurations, reads_of
from skipc.compiler.targets.latency import (
    measure_by_size,
    measure_latencies,
    measured_sizes,
)
from skipc.compiler.targets.options import Int8Form
from skipc.runtime.backends.host import default_threads, host_key
from skipc.runtime.backends.onnxruntime.cpu import NAME, OnnxRuntimeCpu, current_host
from skipc.runtime.bundle.engines import EngineEntry
from skipc.runtime.bundle.folder import golden_reads
from skipc.runtime.bundle.gates import EVERYTHING, THRESHOLDS
from skipc.runtime.bundle.tensors import at_sizes
from skipc.runtime.errors import install_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.targets.cpu.merge import PackedStore
    from skipc.compiler.targets.options import TargetOptions
    from skipc.profiles import Profile
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.engines import Latency, SizedLatency, Switches
    from skipc.runtime.bundle.manifest import EngineForm, GraphEntry, Manifest, StoredTensor
    from skipc.runtime.bundle.tensors import Sizes

    Case = dict[str, NDArray[Any]]
    Settings = Mapping[str, tuple[bool | float, ...]]

__all__ = [
    "build_engines",
    "measure_graphs",
    "reusable",
    "unavailable_reason",
    "unmeasurable_reason",
]

PACKED_FILE = "packed.bin"
_MOST_OVER_OWN = 1.03
"""How much slower than engines of their own ``auto`` lets one session be."""


@dataclass(frozen=True, slots=True)
class _Engines:
    """The engines of a bundle, packed.

    Attributes:
        packed: By graph.
        outputs: What plain sessions of each file give for each golden input; nothing where
            each piece of it was optimised by itself, so that its bits are its own.
        chosen: Why they are of this form; empty where it was not to be chosen.
        switches: What one engine for all switches.
        settings: By graph, the inputs that its engine is given.
    """

    packed: Mapping[str, _Packed]
    outputs: Mapping[str, list[Case]]
    chosen: str = ""
    switches: Switches | None = None
    settings: Mapping[str, Settings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Packed:
    """One graph's engine, checked."""

    graph: str
    file: Path
    blobs: frozenset[StoredTensor]


def unavailable_reason(profile: Profile) -> str | None:
    """Returns which package is missing; None if engines can be built on this host."""
    del profile  # the CPU of this machine is always the one that is meant
    for name in ("onnxruntime", "onnx"):
        if importlib.util.find_spec(name) is None:
            return f"{name!r} is not installed. Install it with: {install_text('finish')}"
    return None


def unmeasurable_reason(profile: Profile) -> str | None:
    """Returns None: whoever builds engines runs them, too."""
    del profile
    return None


def int8_form(profile: Profile) -> Int8Form:
    """Returns uint8 activations: with int8 ones a Relu is no clip, and nothing is fused.

    Weights have 7 bits where this machine is an x86 without VNNI, if it may be the target.
    """
    host = host_key(NAME, "")
    here = profile.architecture in ("any", host["architecture"])
    return Int8Form(seven_bits=here and saturates(host))


def saturates(host: Mapping[str, str]) -> bool:
    """Tells whether the CPU of ``host_key`` adds two products of uint8 and int8 in 16 bits."""
    return host["architecture"] == "x86_64" and "vnni" not in host["cpu_features"]


def reusable(path: str) -> bool:
    """Returns False: building an engine takes no longer than finding out that it may stay."""
    del path
    return False


def build_engines(
    bundle: Bundle,
    profile: Profile,
    options: TargetOptions,
    staging: Path,
    progress: Callable[[str], None],
) -> Built:
    """Builds the engines in ``staging``; see ``EngineBuilder``.

    Raises:
        TargetError: ONNX Runtime cannot load a graph, an option is another target's, or one
            session was asked for that cannot hold the family.
        IntegrityError: A graph of the bundle is damaged or reads another file.
        NumericsError: An engine gives other bits than ONNX Runtime without the packed
            store, or is further from the golden outputs than the manifest allows.
    """
    from skipc.compiler.targets.cpu.merge import PackedStore

    options.refuse(profile)
    require("onnxruntime", "finish")
    inputs = golden_reads(bundle)
    with PackedStore(staging / PACKED_FILE) as store:
        made = _engines(bundle, options.engines or "each", inputs, store, progress)
    packed_file = PACKED_FILE if store.size_bytes else ""
    if not packed_file:
        (staging / PACKED_FILE).unlink()
    paths = {name: one.file for name, one in made.packed.items()}
    backend = partial(OnnxRuntimeCpu, paths, packed_file, settings=made.settings)
    with closing(backend(threads=1)) as checking:
        fed = check_configurations(bundle, checking, made.outputs, inputs, "this CPU")
        specs, given = bundle.manifest.inputs, bundle.golden_inputs()[0]
        sized = [
            (at, reads_of(bundle, checking.load, at_sizes(given, specs, at)))
            for at in measured_sizes(bundle.manifest.dimensions)
        ]
    # What gates decide for noise says nothing: measured is all that the cap lets run.
    everything = {
        graph.name: {THRESHOLDS: np.full(len(graph.gates), EVERYTHING, np.float32)}
        for graph in bundle.manifest.graphs
        if graph.gates
    }
    fed = {name: {**case, **everything.get(name, {})} for name, case in fed.items()}
    others = [
        (at, {name: {**case, **everything.get(name, {})} for name, case in reads.items()})
        for at, reads in sized
    ]
    latencies, by_size = _latencies(backend, fed, others, progress)
    entries = _entries(made, latencies, by_size)
    return Built(current_host(), entries, packed_file, made.switches, made.chosen)


def _engines(
    bundle: Bundle,
    form: EngineForm,
    inputs: list[Case],
    store: PackedStore,
    progress: Callable[[str], None],
) -> _Engines:
    """Packs a bundle's engines in the form asked for, or in the better one."""
    if form == "each":
        return _each(bundle, inputs, store, progress)
    from skipc.compiler.targets.cpu.one import reason_to_try

    try:
        reason = "" if form == "one" else reason_to_try(bundle)
        if form == "one" or reason:
            return _one(bundle, inputs, store, progress, reason)
        reason = "few configurations of a network of convolutions load in no time"
    except UnsuitedError as cause:
        if form == "one":
            raise TargetError(
                f"--engines one: one session cannot hold this family: {cause}. Build with"
                " --engines each, or auto."
            ) from cause
        reason = str(cause)
    return replace(
        _each(bundle, inputs, store, progress), chosen=f"an engine for each graph: {reason}"
    )


def _each(
    bundle: Bundle, inputs: list[Case], store: PackedStore, progress: Callable[[str], None]
) -> _Engines:
    """Packs an engine for each graph."""
    manifest = bundle.manifest
    files = {file: _graphs_in(manifest, file) for file in (g.file for g in manifest.graphs)}
    made: dict[str, _Packed] = {}
    outputs: dict[str, list[Case]] = {}
    gated: list[GraphEntry] = []
    for number, (file, graphs) in enumerate(files.items(), start=1):
        progress(f"packing {file.removesuffix('.onnx')} ({number} of {len(files)})")
        if graphs[0].gates:
            gated += graphs
            continue
        packed, outputs[file] = _packed(bundle, graphs, inputs, store, progress)
        made |= packed
    settings: Mapping[str, Settings] = {}
    if gated:
        more, settings = _gated(bundle, gated, inputs, store, progress)
        made |= more
    order = [graph.name for graph in manifest.graphs]
    return _Engines({name: made[name] for name in order}, outputs, settings=settings)


def _gated(
    bundle: Bundle,
    graphs: Sequence[GraphEntry],
    inputs: list[Case],
    store: PackedStore,
    progress: Callable[[str], None],
) -> tuple[dict[str, _Packed], dict[str, Settings]]:
    """Packs the engines of graphs with gates; those that differ in settings share one."""
    from skipc.compiler.targets.cpu.gated import (
        check_decisions,
        gated_session,
        gated_settings,
        same_but_for_settings,
    )
    from skipc.compiler.targets.cpu.merge import merge_graph

    staging = store.path.parent
    made: dict[str, _Packed] = {}
    for graph in graphs:
        if graph.name in made:
            continue
        alike = [graph]
        alike += [g for g in graphs if g != graph and same_but_for_settings(bundle, graph, g)]
        with tempfile.TemporaryDirectory(dir=staging) as scratch:
            try:
                one = gated_session(bundle, graph, inputs, Path(scratch), progress)
            except UnsuitedError as cause:
                raise TargetError(
                    f"graph {graph.name!r}: its gates cannot switch their units: {cause}."
                    " Leave its configuration out of the front."
                ) from cause
            for each in alike:
                check_decisions(one, bundle, each, inputs)
            to = staging / f"{graph.name}.onnx"
            blobs = merge_graph(one.graph, one.data, to, store)
        made |= {each.name: _Packed(each.name, to, blobs) for each in alike}
    return made, {graph.name: gated_settings(bundle, graph) for graph in graphs}


def _one(
    bundle: Bundle,
    inputs: list[Case],
    store: PackedStore,
    progress: Callable[[str], None],
    reason: str,
) -> _Engines:
    """Packs one engine for all graphs; measured first where there is a reason to try it."""
    from skipc.compiler.targets.cpu.merge import merge_graph
    from skipc.compiler.targets.cpu.one import one_session

    staging, manifest, chosen = store.path.parent, bundle.manifest, ""
    with tempfile.TemporaryDirectory(dir=staging) as scratch:
        one = one_session(bundle, inputs, Path(scratch), progress)
        if reason:
            progress("measuring it against an engine of its own")
            over = one.over_own(inputs[0])
            if over > _MOST_OVER_OWN:
                raise UnsuitedError(f"one session takes {over:.3f} of the full one's own time")
            chosen = f"one for all graphs: {reason}; {over:.3f} of the full one's own time"
        to = staging / f"{one.switches.graph}.onnx"
        blobs = merge_graph(one.graph, one.data, to, store)
    return _Engines(
        {graph.name: _Packed(graph.name, to, blobs) for graph in manifest.graphs},
        {manifest.graph(name).file: found for name, found in one.outputs.items()},
        chosen,
        one.switches,
        one.settings,
    )


def _graphs_in(manifest: Manifest, file: str) -> list[GraphEntry]:
    return [graph for graph in manifest.graphs if graph.file == file]


def _latencies(
    opened: Callable[..., OnnxRuntimeCpu],
    inputs: Mapping[str, Case],
    others: Sequence[tuple[Sizes, Mapping[str, Case]]],
    progress: Callable[[str], None],
) -> tuple[dict[str, tuple[Latency, ...]], dict[str, tuple[SizedLatency, ...]]]:
    """Returns every engine's latency with one thread and with one per core.

    At the typical sizes, and of what else is read at ``others``.
    """
    table: dict[str, tuple[Latency, ...]] = dict.fromkeys(inputs, ())
    by_size: dict[str, tuple[SizedLatency, ...]] = dict.fromkeys(inputs, ())
    for threads in sorted({1, default_threads()}):
        progress(f"measuring latency, {threads} thread{'s' if threads > 1 else ''}")
        with closing(opened(threads=threads)) as backend:
            rows = measure_latencies(backend, inputs)
            for name, row in rows.items():
                table[name] += (row,)
            for name, sized in measure_by_size(backend, rows, inputs, others).items():
                by_size[name] += sized
    return table, by_size


def _packed(
    bundle: Bundle,
    graphs: list[GraphEntry],
    inputs: list[Case],
    store: PackedStore,
    progress: Callable[[str], None],
) -> tuple[dict[str, _Packed], list[Case]]:
    """Optimises and merges the graphs of one file; keeps nothing of it in memory.

    Returns:
        The engines by graph, and what the whole file gives for each input; nothing where
        each piece was optimised by itself, so that its bits are its own.
    """
    from skipc.compiler.targets.cpu.merge import merge_graph

    staging = store.path.parent
    made: dict[str, _Packed] = {}
    with tempfile.TemporaryDirectory(dir=staging) as scratch:
        parts, outputs = optimized_parts(bundle, graphs, inputs, Path(scratch), progress)
        for graph, (path, data) in zip(graphs, parts, strict=True):
            to = staging / f"{graph.name}.onnx"
            made[graph.name] = _Packed(graph.name, to, merge_graph(path, data, to, store))
    return made, outputs


def _entries(
    engines: _Engines,
    latencies: Mapping[str, tuple[Latency, ...]],
    by_size: Mapping[str, tuple[SizedLatency, ...]],
) -> tuple[EngineEntry, ...]:
    made = engines.packed
    users = Counter(blob for one in made.values() for blob in one.blobs)
    return tuple(
        EngineEntry(
            graph=one.graph,
            file=one.file.name,
            weights_bytes=sum(blob.size_bytes for blob in one.blobs),
            own_bytes=sum(blob.size_bytes for blob in one.blobs if users[blob] == 1),
            device_bytes=0,
            workspace_bytes=0,
            latency=latencies[one.graph],
            settings=engines.settings.get(one.graph, {}),
            by_size=by_size[one.graph],
        )
        for one in made.values()
    )
