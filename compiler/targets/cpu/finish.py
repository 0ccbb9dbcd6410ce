"""Builds the engines of target ``cpu``, one graph after the other."""

from __future__ import annotations

import importlib.util
import tempfile
from collections import Counter
from contextlib import closing
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

    from skipc.compiler.targets.cpu.merge import Blob, PackedStore
    from skipc.compiler.targets.options import TargetOptions
    from skipc.profiles import Profile
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.engines import Latency
    from skipc.runtime.bundle.manifest import GraphEntry

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
    made: dict[str, frozenset[Blob]] = {}
    with PackedStore(staging / PACKED_FILE) as store:
        for number, graph in enumerate(graphs, start=1):
            progress(f"packing {graph.name} ({number} of {len(graphs)})")
            made[graph.name] = _pack(bundle, graph, inputs, store)
    packed_file = PACKED_FILE if store.size_bytes else ""
    if not packed_file:
        (staging / PACKED_FILE).unlink()
    files = {name: staging / f"{name}.onnx" for name in made}
    latencies = _latencies(files, packed_file, inputs[0], progress)
    users = Counter(blob for blobs in made.values() for blob in blobs)
    engines = tuple(
        EngineEntry(
            graph=name,
            file=files[name].name,
            weights_bytes=sum(blob.size_bytes for blob in blobs),
            own_bytes=sum(blob.size_bytes for blob in blobs if users[blob] == 1),
            device_bytes=0,
            workspace_bytes=0,
            latency=latencies[name],
        )
        for name, blobs in made.items()
    )
    return Built(current_host(), engines, packed_file)


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


def _pack(
    bundle: Bundle, graph: GraphEntry, inputs: list[Case], store: PackedStore
) -> frozenset[Blob]:
    """Optimises, merges and checks one graph; keeps nothing of it in memory."""
    from skipc.compiler.targets.cpu.merge import merge_graph

    staging = store.path.parent
    path = staging / f"{graph.name}.onnx"
    with tempfile.TemporaryDirectory(dir=staging) as scratch:
        optimized, data = Path(scratch) / "optimized.onnx", Path(scratch) / "optimized.data"
        before = optimize_graph(bundle.graph_file(graph), optimized, data, inputs)
        check_outputs(graph, before)
        blobs = merge_graph(optimized, data, path, store)
    packed_file = store.path.name if store.size_bytes else ""
    with (
        closing(OnnxRuntimeCpu({graph.name: path}, packed_file, threads=1)) as backend,
        closing(backend.load(graph.name)) as engine,
    ):
        after = [engine.run(case) for case in inputs]
    check_same_bits(graph.name, before, after)
    check_golden(bundle, graph, after, NAME, "this CPU")
    return blobs


def optimize_graph(graph: Path, written: Path, data: Path, inputs: list[Case]) -> list[Case]:
    """Lets ONNX Runtime optimise ``graph`` for this CPU; returns its outputs by name.

    They are those of the plain session: every optimisation (see ``holds_half``), one thread.

    Args:
        graph: A graph of the bundle.
        written: Where the optimised graph goes.
        data: Where its tensors and prepacked blobs go, if it does not hold all itself.
        inputs: What to run it on.

    Raises:
        TargetError: ONNX Runtime cannot load or run the graph.
    """
    onnxruntime = require("onnxruntime", "finish")
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
        return [dict(zip(names, session.run(names, case), strict=True)) for case in inputs]
    # ONNX Runtime's exceptions share no base class below Exception.
    except Exception as cause:
        raise TargetError(
            f"{graph}: ONNX Runtime {onnxruntime.__version__} cannot load or run it:"
            f" {reason_of(cause)}"
        ) from cause
