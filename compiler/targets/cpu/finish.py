"""Builds the engines of target ``cpu``: one configuration after the other, all or none."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from skipc.compiler.bundle.files import staged_folder, write_whole
from skipc.compiler.errors import TargetError
from skipc.compiler.extras import require
from skipc.compiler.targets.cpu import probe
from skipc.compiler.targets.cpu.verify import check_same_bits
from skipc.compiler.targets.golden import check_golden, tolerance_on
from skipc.compiler.targets.graphs import checked_graph
from skipc.compiler.targets.latency import measure_latencies
from skipc.runtime.backends.host import default_threads
from skipc.runtime.backends.onnxruntime.cpu import NAME, OnnxRuntimeCpu, current_host
from skipc.runtime.bundle.engines import EngineEntry, EngineSet
from skipc.runtime.bundle.folder import ENGINES_FILE, file_sha256
from skipc.runtime.bundle.manifest import FileEntry
from skipc.runtime.errors import install_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from skipc.compiler.targets.cpu.merge import Blob, PackedStore
    from skipc.compiler.targets.options import TargetOptions
    from skipc.profiles import Profile
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.engines import Latency
    from skipc.runtime.bundle.manifest import ConfigurationEntry

    Case = dict[str, NDArray[Any]]

PACKED_FILE = "packed.bin"


@dataclass(frozen=True, slots=True)
class _Built:
    """One configuration's engine, checked."""

    configuration: str
    file: FileEntry
    blobs: frozenset[Blob]


def unavailable_reason(profile: Profile) -> str | None:
    """Returns which package is missing; None if engines can be built on this host."""
    del profile  # the CPU of this machine is always the one that is meant
    missing = [name for name in ("onnxruntime", "onnx") if not _installed(name)]
    if not missing:
        return None
    return f"{missing[0]!r} is not installed. Install it with: {install_text('finish')}"


def unmeasurable_reason(profile: Profile) -> str | None:
    """Returns which package is missing; None if engines can be run on this host."""
    return unavailable_reason(profile)


def measure_graphs(
    profile: Profile,
    graphs: Mapping[str, Path],
    inputs: Case,
    threads: int,
    progress: Callable[[str], None],
) -> dict[str, float]:
    """Returns each graph's median latency in ms; see ``EngineBuilder``."""
    del profile
    return probe.measure_graphs(graphs, inputs, threads, progress)


def build_engines(
    bundle: Bundle,
    profile: Profile,
    options: TargetOptions,
    progress: Callable[[str], None],
) -> EngineSet:
    """Builds ``engines/<target>`` on this host; see ``EngineBuilder``.

    Raises:
        TargetError: ONNX Runtime cannot load a graph, the folder cannot be written, or an
            option was given: there are none.
        IntegrityError: A graph of the bundle is damaged or reads another file.
        NumericsError: An engine gives other bits than ONNX Runtime without the packed
            store, or is further from the golden outputs than the manifest allows.
    """
    options.refuse(profile)
    require("onnxruntime", "finish")
    folder = bundle.engine_dir(profile.name)
    try:
        with staged_folder(folder) as staging:
            engines = _build(bundle, profile.name, staging, progress)
            text = json.dumps(engines.to_json(), indent=1)
            write_whole(staging / ENGINES_FILE, text.encode() + b"\n")
    except OSError as cause:
        raise TargetError(f"{folder} cannot be written: {cause.strerror or cause}.") from cause
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
    latencies = _latencies(files, packed_file, inputs[0], progress)
    return EngineSet(
        target=target,
        backend=NAME,
        host=current_host(),
        bundle_sha256=bundle.manifest_sha256,
        engines=_entries(built, latencies),
        packed_file=packed_file,
        files=(*(one.file for one in built), *((packed,) if packed_file else ())),
    )


def _latencies(
    files: Mapping[str, Path], packed_file: str, inputs: Case, progress: Callable[[str], None]
) -> dict[str, tuple[Latency, ...]]:
    """Returns every configuration's latency with one thread and with one per core."""
    table: dict[str, tuple[Latency, ...]] = dict.fromkeys(files, ())
    for threads in sorted({1, default_threads()}):
        progress(f"measuring latency, {threads} thread{'s' if threads > 1 else ''}")
        backend = OnnxRuntimeCpu(files, packed_file, threads)
        try:
            for name, row in measure_latencies(backend, tuple(files), inputs).items():
                table[name] += (row,)
        finally:
            backend.close()
    return table


def _build_one(
    bundle: Bundle, entry: ConfigurationEntry, inputs: list[Case], store: PackedStore
) -> _Built:
    """Optimises, merges and checks one configuration; keeps nothing of it in memory."""
    from skipc.compiler.targets.cpu.merge import merge_graph
    from skipc.compiler.targets.cpu.optimize import optimize_graph

    staging = store.path.parent
    path = staging / PurePosixPath(entry.graph).name
    with tempfile.TemporaryDirectory(dir=staging) as scratch:
        graph = checked_graph(bundle, entry)
        optimized = optimize_graph(graph, Path(scratch), inputs)
        blobs = merge_graph(optimized.graph, optimized.data, path, store)
    after = _run(path, store, inputs)
    check_same_bits(entry.name, optimized.outputs, after)
    golden = bundle.golden_outputs(entry.name)
    check_golden(entry, after, golden, tolerance_on(NAME, entry), "this CPU")
    file = FileEntry(path.name, path.stat().st_size, file_sha256(path))
    return _Built(entry.name, file, blobs)


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
