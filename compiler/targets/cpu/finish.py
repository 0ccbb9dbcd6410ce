"""Builds the engines of target ``cpu``: one configuration after the other, all or none."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import TargetError
from skipc.compiler.extras import require
from skipc.compiler.files import staged_folder, write_whole
from skipc.compiler.targets.cpu.latency import measure_latencies
from skipc.compiler.targets.cpu.probe import measure_graphs
from skipc.compiler.targets.cpu.verify import check_golden, check_same_bits
from skipc.runtime.backends.onnx_locations import locations
from skipc.runtime.backends.onnxruntime_cpu import NAME, OnnxRuntimeCpu, current_host
from skipc.runtime.bundle import ENGINES_FILE, file_sha256
from skipc.runtime.engines import EngineEntry, EngineSet
from skipc.runtime.errors import IntegrityError
from skipc.runtime.manifest import FileEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skipc.compiler.targets.cpu.merge import Blob, PackedStore
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.engines import Latency
    from skipc.runtime.manifest import ConfigurationEntry

    Case = dict[str, NDArray[Any]]

PACKED_FILE = "packed.bin"

__all__ = ["build_engines", "measure_graphs", "unavailable_reason"]


@dataclass(frozen=True, slots=True)
class _Built:
    """One configuration's engine, checked."""

    configuration: str
    file: FileEntry
    blobs: frozenset[Blob]


def unavailable_reason() -> str | None:
    """Returns which package is missing; None if engines can be built on this host."""
    missing = [name for name in ("onnxruntime", "onnx") if not _installed(name)]
    if not missing:
        return None
    return f"{missing[0]!r} is not installed. Install it with: pip install 'skipc[finish]'"


def build_engines(bundle: Bundle, target: str, progress: Callable[[str], None]) -> EngineSet:
    """Builds ``engines/<target>`` on this host; see ``EngineBuilder``.

    Raises:
        TargetError: ONNX Runtime cannot load a graph, or the folder cannot be written.
        IntegrityError: A graph of the bundle is damaged or reads another file.
        NumericsError: An engine gives other bits than ONNX Runtime without the packed
            store, or is further from the golden outputs than the manifest allows.
    """
    require("onnxruntime", "finish")
    folder = bundle.engine_dir(target)
    try:
        with staged_folder(folder) as staging:
            engines = _build(bundle, target, staging, progress)
            text = json.dumps(engines.to_json(), indent=1)
            write_whole(staging / ENGINES_FILE, text.encode() + b"\n")
    except OSError as cause:
        raise TargetError(f"{folder} cannot be written: {cause}.") from cause
    return engines


def _build(
    bundle: Bundle, target: str, staging: Path, progress: Callable[[str], None]
) -> EngineSet:
    from skipc.compiler.targets.cpu.merge import PackedStore

    inputs = bundle.golden_inputs()
    entries = bundle.manifest.configurations
    built: list[_Built] = []
    with PackedStore(staging / PACKED_FILE) as store:
        for number, entry in enumerate(entries, start=1):
            progress(f"packing {entry.name} ({number} of {len(entries)})")
            built.append(_build_one(bundle, entry, inputs, store))
        packed = FileEntry(PACKED_FILE, store.size_bytes, store.sha256)
    if packed.size_bytes == 0:
        (staging / PACKED_FILE).unlink()
    packed_file = PACKED_FILE if packed.size_bytes else ""
    files = {one.configuration: staging / one.file.path for one in built}
    latencies = measure_latencies(files, packed_file, inputs[0], progress)
    return EngineSet(
        target=target,
        backend=NAME,
        host=current_host(),
        bundle_sha256=bundle.manifest_sha256,
        engines=_entries(built, latencies),
        packed_file=packed_file,
        files=(*(one.file for one in built), *((packed,) if packed_file else ())),
    )


def _build_one(
    bundle: Bundle, entry: ConfigurationEntry, inputs: list[Case], store: PackedStore
) -> _Built:
    """Optimises, merges and checks one configuration; keeps nothing of it in memory."""
    from skipc.compiler.targets.cpu.merge import merge_graph
    from skipc.compiler.targets.cpu.optimize import optimize_graph

    staging = store.path.parent
    path = staging / PurePosixPath(entry.graph).name
    with tempfile.TemporaryDirectory(dir=staging) as scratch:
        graph = _checked_graph(bundle, entry)
        optimized = optimize_graph(graph, Path(scratch), inputs)
        blobs = merge_graph(optimized.graph, optimized.data, path, store)
    after = _run(path, store, inputs)
    check_same_bits(entry.name, optimized.outputs, after)
    check_golden(entry, after, bundle.golden_outputs(entry.name))
    file = FileEntry(path.name, path.stat().st_size, file_sha256(path))
    return _Built(entry.name, file, blobs)


def _checked_graph(bundle: Bundle, entry: ConfigurationEntry) -> Path:
    """Returns the configuration's graph, which takes tensors from the weight store only."""
    graph = bundle.file(entry.graph)
    try:
        foreign = sorted(locations(graph.read_bytes()) - {bundle.manifest.weights_file})
    except ValueError as cause:
        raise IntegrityError(
            f"{graph}: not an ONNX graph: {cause}. Copy the bundle again."
        ) from cause
    if foreign:
        raise IntegrityError(
            f"{graph}: takes tensors from {foreign[0]!r}, but may only use"
            f" {bundle.manifest.weights_file!r}. The file was altered; copy the bundle again."
        )
    return graph


def _run(path: Path, store: PackedStore, inputs: list[Case]) -> list[Case]:
    packed_file = store.path.name if store.size_bytes else ""
    backend = OnnxRuntimeCpu({path.stem: path}, packed_file, threads=1)
    engine = backend.load(path.stem)
    try:
        return [engine.run(case) for case in inputs]
    finally:
        engine.close()
        backend.close()


def _entries(
    built: list[_Built], latencies: dict[str, tuple[Latency, ...]]
) -> tuple[EngineEntry, ...]:
    users = Counter(blob for one in built for blob in one.blobs)
    return tuple(
        EngineEntry(
            configuration=one.configuration,
            file=one.file.path,
            weights_bytes=sum(blob.size_bytes for blob in one.blobs),
            own_bytes=sum(blob.size_bytes for blob in one.blobs if users[blob] == 1),
            device_bytes=0,
            workspace_bytes=0,
            latency=latencies[one.configuration],
        )
        for one in built
    )


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
