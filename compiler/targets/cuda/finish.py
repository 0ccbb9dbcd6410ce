"""Builds the engines of target ``cuda``: optimised for the GPU, their weights in one store."""

from __future__ import annotations

import importlib.util
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.compiler.errors import TargetError
from skipc.compiler.targets import Built
from skipc.compiler.targets.cpu.parts import optimized_parts
from skipc.compiler.targets.cpu.probe import timed_sessions
from skipc.compiler.targets.golden import check_configurations, reads_of
from skipc.compiler.targets.latency import (
    measure_by_size,
    measure_latencies,
    measured_sizes,
)
from skipc.compiler.targets.options import Int8Form
from skipc.runtime.backends.onnxruntime import devices
from skipc.runtime.backends.onnxruntime.device import OnnxRuntimeDevice
from skipc.runtime.bundle.engines import EngineEntry
from skipc.runtime.bundle.folder import golden_reads
from skipc.runtime.bundle.tensors import at_sizes
from skipc.runtime.errors import BackendUnavailableError, install_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from skipc.compiler.targets.options import TargetOptions
    from skipc.profiles import Profile
    from skipc.runtime.backends.onnxruntime.devices import Device
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import StoredTensor

PACKED_FILE = "packed.bin"


def unavailable_reason(profile: Profile) -> str | None:
    """Returns which library is missing, or that there is no GPU; None if there is all."""
    del profile  # the GPU of this machine is always the one that is meant
    if importlib.util.find_spec("onnx") is None:
        return f"'onnx' is not installed. Install it with: {install_text('cuda')}"
    try:
        devices.cuda_device().close()
    except BackendUnavailableError as reason:
        return str(reason)
    return None


def unmeasurable_reason(profile: Profile) -> str | None:
    """Returns None: whoever builds engines runs them, too."""
    del profile
    return None


def int8_form(profile: Profile) -> Int8Form:
    """Returns int8 activations around 0 and float32 biases: what the provider dequantises."""
    del profile
    return Int8Form(unsigned=False, integer_bias=False, dynamic=False)


def reusable(path: str) -> bool:
    """Returns False: building an engine takes no longer than finding out that it may stay."""
    del path
    return False


def measure_graphs(
    profile: Profile,
    graphs: Mapping[str, Path],
    inputs: Mapping[str, NDArray[np.generic]],
    threads: int,
    progress: Callable[[str], None],
) -> dict[str, float]:
    """Returns each graph's median latency in ms on the GPU; see ``EngineBuilder``."""
    del profile, threads  # threads make no difference on a GPU
    with closing(devices.cuda_device()) as device:
        return timed_sessions(graphs, inputs, 1, progress, device.providers())


def build_engines(
    bundle: Bundle,
    profile: Profile,
    options: TargetOptions,
    staging: Path,
    progress: Callable[[str], None],
) -> Built:
    """Builds the engines in ``staging``; see ``EngineBuilder``.

    Raises:
        TargetError: ONNX Runtime cannot load a graph, an option is another target's, or gates
            decide about units.
        BackendUnavailableError: There is no GPU, or a library is missing.
        NumericsError: An engine is further from the golden outputs than TF32 explains.
    """
    options.refuse(profile)
    return build_on(devices.cuda_device(), bundle, staging, progress)


def build_on(
    device: Device, bundle: Bundle, staging: Path, progress: Callable[[str], None]
) -> Built:
    """Builds the same on a device, which is closed afterwards."""
    from skipc.compiler.targets.cpu.merge import PackedStore, merge_graph

    manifest, inputs = bundle.manifest, golden_reads(bundle)
    gated = [graph.name for graph in manifest.graphs if graph.gates]
    if gated:
        device.close()
        raise TargetError(
            f"graph {gated[0]!r}: its units run or not as gates decide, and on a GPU all of"
            " them would be computed, whatever they say. Build its configuration for the"
            " target 'cpu', or leave it out of the front."
        )
    blobs: dict[str, frozenset[StoredTensor]] = {}
    files = dict.fromkeys(graph.file for graph in manifest.graphs)
    with PackedStore(staging / PACKED_FILE) as store:
        for number, file in enumerate(files, start=1):
            progress(f"optimising {file.removesuffix('.onnx')} ({number} of {len(files)})")
            graphs = [graph for graph in manifest.graphs if graph.file == file]
            with tempfile.TemporaryDirectory(dir=staging) as scratch:
                folder = Path(scratch)
                parts, _ = optimized_parts(bundle, graphs, inputs, folder, progress, device)
                for graph, (path, data) in zip(graphs, parts, strict=True):
                    to = staging / f"{graph.name}.onnx"
                    blobs[graph.name] = merge_graph(path, data, to, store)
    packed_file = PACKED_FILE if store.size_bytes else ""
    if not packed_file:
        (staging / PACKED_FILE).unlink()
    paths = {graph.name: staging / f"{graph.name}.onnx" for graph in manifest.graphs}
    with closing(OnnxRuntimeDevice(device, paths, packed_file, manifest)) as backend:
        reads = check_configurations(bundle, backend, {}, inputs, device.name)
        taken_bytes, given = dict(backend.taken_bytes), bundle.golden_inputs()[0]
        others = [
            (at, reads_of(bundle, backend.load, at_sizes(given, manifest.inputs, at)))
            for at in measured_sizes(manifest.dimensions)
        ]
        progress("measuring latency")
        rows = measure_latencies(backend, reads)
        by_size = measure_by_size(backend, rows, reads, others)
    users = Counter(blob for used in blobs.values() for blob in used)
    return Built(
        device.host,
        tuple(
            EngineEntry(
                graph=graph.name,
                file=paths[graph.name].name,
                weights_bytes=sum(blob.size_bytes for blob in blobs[graph.name]),
                own_bytes=sum(b.size_bytes for b in blobs[graph.name] if users[b] == 1),
                device_bytes=taken_bytes[graph.name],
                workspace_bytes=0,
                latency=(rows[graph.name],),
                by_size=by_size.get(graph.name, ()),
            )
            for graph in manifest.graphs
        ),
        packed_file,
    )
