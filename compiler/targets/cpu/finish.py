"""Builds the engines of target ``cpu``, one graph after the other."""

from __future__ import annotations

import importlib.util
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import TargetError
from skipc.compiler.extras import require
from skipc.compiler.targets import Built
from skipc.compiler.targets.cpu.probe import measure_graphs
from skipc.compiler.targets.golden import check_golden, check_outputs, check_same_bits
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
    from skipc.runtime.bundle.manifest import GraphEntry, StoredTensor

    Case = dict[str, NDArray[Any]]

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
    inputs = bundle.golden_inputs()
    graphs = bundle.manifest.graphs
    made: list[_Packed] = []
    with PackedStore(staging / PACKED_FILE) as store:
        for number, graph in enumerate(graphs, start=1):
            progress(f"packing {graph.name} ({number} of {len(graphs)})")
            made.append(_packed(bundle, graph, inputs, store))
    packed_file = PACKED_FILE if store.size_bytes else ""
    if not packed_file:
        (staging / PACKED_FILE).unlink()
    files = {one.graph: one.file for one in made}
    latencies = _latencies(files, packed_file, inputs[0], progress)
    return Built(current_host(), _entries(made, latencies), packed_file)


def _latencies(
    files: Mapping[str, Path], packed_file: str, inputs: Case, progress: Callable[[str], None]
) -> dict[str, tuple[Latency, ...]]:
    """Returns every engine's latency with one thread and with one per core."""
    table: dict[str, tuple[Latency, ...]] = dict.fromkeys(files, ())
    for threads in sorted({1, default_threads()}):
        progress(f"measuring latency, {threads} thread{'s' if threads > 1 else ''}")
        with closing(OnnxRuntimeCpu(files, packed_file, threads)) as backend:
            for name, row in measure_latencies(backend, tuple(files), inputs).items():
                table[name] += (row,)
    return table


def _packed(
    bundle: Bundle, graph: GraphEntry, inputs: list[Case], store: PackedStore
) -> _Packed:
    """Optimises, merges and checks one graph; keeps nothing of it in memory."""
    from skipc.compiler.targets.cpu.merge import merge_graph

    staging = store.path.parent
    path = staging / f"{graph.name}.onnx"
    with tempfile.TemporaryDirectory(dir=staging) as scratch:
        file = bundle.graph_file(graph)
        optimized = optimize_graph(file, Path(scratch), inputs)
        check_outputs(graph, optimized.outputs)
        blobs = merge_graph(optimized.graph, optimized.data, path, store)
    after = _run(path, store, inputs)
    check_same_bits(graph.name, optimized.outputs, after)
    check_golden(bundle, graph, after, NAME, "this CPU")
    return _Packed(graph.name, path, blobs)


def _run(path: Path, store: PackedStore, inputs: list[Case]) -> list[Case]:
    packed_file = store.path.name if store.size_bytes else ""
    with (
        closing(OnnxRuntimeCpu({path.stem: path}, packed_file, threads=1)) as backend,
        closing(backend.load(path.stem)) as engine,
    ):
        return [engine.run(case) for case in inputs]


def _entries(
    made: list[_Packed], latencies: dict[str, tuple[Latency, ...]]
) -> tuple[EngineEntry, ...]:
    users = Counter(blob for one in made for blob in one.blobs)
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
        for one in made
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
