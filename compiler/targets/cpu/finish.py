"""Builds the engines of target ``cpu``, one graph after the other."""

from __future__ import annotations

import importlib.util
import tempfile
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import TargetError
from skipc.compiler.extras import require
from skipc.compiler.targets import Built
from skipc.compiler.targets.cpu.probe import measure_graphs
from skipc.compiler.targets.golden import (
    check_golden,
    check_outputs,
    check_same_bits,
    run_route,
)
from skipc.compiler.targets.latency import measure_latencies
from skipc.compiler.verify.sessions import holds_half
from skipc.runtime.backends.host import default_threads
from skipc.runtime.backends.onnxruntime.cpu import NAME, OnnxRuntimeCpu, current_host
from skipc.runtime.bundle.engines import EngineEntry
from skipc.runtime.errors import install_text, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from skipc.compiler.targets.cpu.merge import PackedStore
    from skipc.compiler.targets.options import TargetOptions
    from skipc.profiles import Profile
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.engines import Latency
    from skipc.runtime.bundle.manifest import GraphEntry, Manifest, StoredTensor

    Case = dict[str, NDArray[Any]]
    _Part = tuple[Path, Path]

__all__ = [
    "build_engines",
    "measure_graphs",
    "reusable",
    "unavailable_reason",
    "unmeasurable_reason",
]

PACKED_FILE = "packed.bin"
_EXTERNAL_FROM_BYTES = 256
"""Smaller tensors stay inside the graphs, as in the portable bundle."""
_ERRORS_ONLY = 3


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
        TargetError: ONNX Runtime cannot load a graph, or an option was given: there are none.
        IntegrityError: A graph of the bundle is damaged or reads another file.
        NumericsError: An engine gives other bits than ONNX Runtime without the packed
            store, or is further from the golden outputs than the manifest allows.
    """
    from skipc.compiler.targets.cpu.merge import PackedStore

    options.refuse(profile)
    require("onnxruntime", "finish")
    manifest = bundle.manifest
    files = {file: _graphs_in(manifest, file) for file in (g.file for g in manifest.graphs)}
    made: dict[str, _Packed] = {}
    outputs: dict[str, list[Case]] = {}
    inputs = bundle.golden_inputs()
    with PackedStore(staging / PACKED_FILE) as store:
        for number, (file, graphs) in enumerate(files.items(), start=1):
            progress(f"packing {file.removesuffix('.onnx')} ({number} of {len(files)})")
            packed, outputs[file] = _packed(bundle, file, graphs, inputs, store, progress)
            made |= packed
    packed_file = PACKED_FILE if store.size_bytes else ""
    if not packed_file:
        (staging / PACKED_FILE).unlink()
    paths = {name: one.file for name, one in made.items()}
    fed = _checked(bundle, OnnxRuntimeCpu(paths, packed_file, threads=1), outputs, inputs)
    latencies = _latencies(paths, packed_file, fed, progress)
    return Built(current_host(), _entries(made, latencies), packed_file)


def _graphs_in(manifest: Manifest, file: str) -> list[GraphEntry]:
    return [graph for graph in manifest.graphs if graph.file == file]


def _latencies(
    files: Mapping[str, Path],
    packed_file: str,
    inputs: Mapping[str, Case],
    progress: Callable[[str], None],
) -> dict[str, tuple[Latency, ...]]:
    """Returns every engine's latency with one thread and with one per core."""
    table: dict[str, tuple[Latency, ...]] = dict.fromkeys(files, ())
    for threads in sorted({1, default_threads()}):
        progress(f"measuring latency, {threads} thread{'s' if threads > 1 else ''}")
        with closing(OnnxRuntimeCpu(files, packed_file, threads)) as backend:
            for name, row in measure_latencies(backend, inputs).items():
                table[name] += (row,)
    return table


def _packed(
    bundle: Bundle,
    file: str,
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
        whole = bundle.graph_file(graphs[0])
        optimized = optimize_graph(whole, Path(scratch), inputs)
        outputs = optimized.outputs
        if len(graphs) == 1:
            check_outputs(graphs[0], outputs)
            parts = [(optimized.graph, optimized.data)]
        else:
            parts = _cut(optimized, graphs, Path(scratch))
            if not parts:
                progress(f"cutting {file} before it is optimised: fusions reach over an exit")
                parts, outputs = _cut_before(whole, graphs, Path(scratch)), []
        for graph, (path, data) in zip(graphs, parts, strict=True):
            to = staging / f"{graph.name}.onnx"
            made[graph.name] = _Packed(graph.name, to, merge_graph(path, data, to, store))
    return made, outputs


def _cut(optimized: Optimized, graphs: list[GraphEntry], folder: Path) -> list[_Part]:
    """Returns the pieces of an optimised graph with their data; none where it has no place."""
    require("onnx_ir", "finish")
    from skipc.compiler.targets.cpu.cut import cut_optimized

    return [(path, optimized.data) for path in cut_optimized(optimized.graph, graphs, folder)]


def _cut_before(whole: Path, graphs: list[GraphEntry], folder: Path) -> list[_Part]:
    """Returns the pieces of a graph, each optimised by itself, with their data."""
    from skipc.compiler.targets.cpu.cut import cut_portable

    made = [optimize_graph(p, p.parent, []) for p in cut_portable(whole, graphs, folder)]
    return [(each.graph, each.data) for each in made]


def _checked(
    bundle: Bundle,
    backend: OnnxRuntimeCpu,
    whole: Mapping[str, list[Case]],
    inputs: list[Case],
) -> dict[str, Case]:
    """Runs every configuration on the golden inputs, all stages; returns what graphs read.

    Args:
        bundle: The bundle.
        backend: Runs its engines.
        whole: What plain sessions of the files gave for each input.
        inputs: The golden inputs.
    """
    read: dict[str, Case] = {}
    for entry in bundle.manifest.configurations:
        graphs = bundle.manifest.graphs_of(entry)
        with ExitStack() as stack:
            engines = {
                graph.name: stack.enter_context(closing(backend.load(graph.name)))
                for graph in graphs
            }
            runs = [run_route(bundle, entry, engines, case) for case in inputs]
        for number, stage in enumerate(entry.route):
            graph = bundle.manifest.graph(stage.graph)
            found = [run[number][1] for run in runs]
            read.setdefault(graph.name, runs[0][number][0])
            before = [
                {name: array for name, array in case.items() if name in found[0]}
                for case in whole[graph.file]
            ]
            if before:
                check_same_bits(graph.name, before, found)
        stages = [[run[number][1] for run in runs] for number in range(len(entry.route))]
        check_golden(bundle, entry, stages, NAME, "this CPU")
    return read


def _entries(
    made: Mapping[str, _Packed], latencies: dict[str, tuple[Latency, ...]]
) -> tuple[EngineEntry, ...]:
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
        )
        for one in made.values()
    )


@dataclass(frozen=True, slots=True)
class Optimized:
    """An optimised graph on disk, and what it computes.

    Attributes:
        graph: The optimised graph.
        data: Its tensors and prepacked blobs; not there if the graph holds all itself.
        outputs: The outputs by name, for each of the inputs.
    """

    graph: Path
    data: Path
    outputs: list[Case]


def optimize_graph(graph: Path, folder: Path, inputs: list[Case]) -> Optimized:
    """Lets ONNX Runtime optimise ``graph`` for this CPU, and runs it.

    Args:
        graph: A graph of the bundle.
        folder: An empty folder to write to.
        inputs: What to run the plain session on: every optimisation (see ``holds_half``),
            one thread.

    Raises:
        TargetError: ONNX Runtime cannot load or run the graph.
    """
    onnxruntime = require("onnxruntime", "finish")
    written, data = folder / "optimized.onnx", folder / "optimized.data"
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.optimized_model_filepath = str(written)
    prefix = "session.optimized_model_external_initializers_"
    for key, value in (
        (f"{prefix}file_name", data.name),
        (f"{prefix}min_size_in_bytes", str(_EXTERNAL_FROM_BYTES)),
        ("session.save_external_prepacked_constant_initializers", "1"),
        ("session.load_model_format", "ONNX"),  # whatever the file is called
    ):
        options.add_session_config_entry(key, value)
    try:
        options.graph_optimization_level = (
            levels.ORT_ENABLE_EXTENDED if holds_half(graph) else levels.ORT_ENABLE_ALL
        )
        session = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        names = [output.name for output in session.get_outputs()]
        outputs = [dict(zip(names, session.run(names, case), strict=True)) for case in inputs]
    # ONNX Runtime's exceptions share no base class below Exception.
    except Exception as cause:
        raise TargetError(
            f"{graph}: ONNX Runtime {onnxruntime.__version__} cannot load or run it:"
            f" {reason_of(cause)}"
        ) from cause
    return Optimized(written, data, outputs)
