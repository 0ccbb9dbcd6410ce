"""Toy bundles with placeholder graphs: everything but the networks is real."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.runtime.bundle.engines import EngineEntry, EngineSet, Latency
from skipc.runtime.bundle.manifest import (
    AxisEntry,
    ChoiceEntry,
    ConfigurationEntry,
    FileEntry,
    GraphEntry,
    Manifest,
    NetworkEntry,
    OptionEntry,
    PartEntry,
    Provenance,
    Recipe,
    StoredTensor,
    Verification,
)
from skipc.runtime.bundle.records import written
from skipc.runtime.bundle.route import Stage
from skipc.runtime.bundle.tensors import Dimension, TensorSpec, typical_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

PAGE_BYTES = 4096
ACCURACIES = {"full": 0.95, "mid": 0.93, "fast": 0.90}
MACS = {"full": 3000, "mid": 2000, "fast": 1000}
LATENCIES_MS = {"full": 9.0, "mid": 6.0, "fast": 3.0}
IMAGES = TensorSpec("images", "float32", (1, 3, 4, 4))
LOGITS = TensorSpec("logits", "float32", (1, 10))


def write_bundle(
    path: Path,
    *,
    inputs: Sequence[TensorSpec] = (IMAGES,),
    outputs: Sequence[TensorSpec] = (LOGITS,),
    dimensions: tuple[Dimension, ...] = (),
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    cases: int = 2,
) -> Path:
    """Writes a valid portable bundle with the configurations full, mid and fast."""
    (path / "golden").mkdir(parents=True)
    rng = np.random.default_rng(0)
    tensors = [rng.bytes(300) for _ in range(3)]
    store = b"".join(data.ljust(PAGE_BYTES, b"\0") for data in tensors)
    (path / "weights.bin").write_bytes(store)
    np.savez(path / "golden/inputs.npz", **_cases(inputs, dimensions, cases))
    for name in MACS:
        (path / f"{name}.onnx").write_bytes(f"graph of {name}".encode())
        np.savez(path / f"golden/{name}.npz", **_cases(outputs, dimensions, cases))
    if metrics is None:
        metrics = {name: {"accuracy": value} for name, value in ACCURACIES.items()}
    units = ("block.0", "block.1")
    ranges = {spec.name: 1.0 for spec in outputs}
    skips = {"full": (), "mid": units[:1], "fast": units}
    manifest = Manifest(
        name=path.stem,
        provenance=Provenance("2026-01-01T00:00:00Z", "fp32", {"skipc": "0"}),
        recipe=Recipe("cpu"),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        dimensions=dimensions,
        networks=(skip_network(OptionEntry(name, 75, 1000) for name in units),),
        graphs=tuple(
            GraphEntry(
                name=name,
                network="",
                file=f"{name}.onnx",
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                macs=macs,
                parameters=225,
                weights_bytes=900,
                own_bytes=0,
                verification=Verification("pytorch", cases, 1e-6, 1e-7, 1e-4, ranges),
            )
            for name, macs in MACS.items()
        ),
        configurations=tuple(
            plain_entry(name, skips[name], f"golden/{name}.npz", metrics[name])
            for name in MACS
        ),
        weights_file="weights.bin",
        weights=tuple(
            StoredTensor(hashlib.sha256(data).hexdigest(), index * PAGE_BYTES, len(data))
            for index, data in enumerate(tensors)
        ),
        golden_inputs="golden/inputs.npz",
        files=files_of(path),
    )
    (path / "manifest.json").write_text(json.dumps(written(manifest)), encoding="utf-8")
    return path


def skip_network(units: Iterable[OptionEntry], model: str = "toy") -> NetworkEntry:
    """Returns the one network of a family whose units may be skipped."""
    origin = ("ckpt.pt", "0" * 64, model, "shared")
    return NetworkEntry("", *origin, (AxisEntry("skip", tuple(units)),))


def plain_entry(
    name: str,
    skipped: Sequence[str],
    golden: str,
    metrics: Mapping[str, float],
    graph: str | None = None,
) -> ConfigurationEntry:
    """Returns a configuration that skips units and is one graph, by default of its name."""
    choice = ChoiceEntry("skip", tuple(skipped), f"{len(skipped)} skipped")
    parts, route = (PartEntry("", (choice,)),), (Stage(graph or name),)
    return ConfigurationEntry(name, parts, route, golden, (1.0,), metrics)


def write_engines(
    path: Path,
    target: str = "cpu",
    *,
    backend: str = "null",
    threads: Sequence[int] = (1,),
    latencies_ms: Mapping[str, float] = LATENCIES_MS,
    graphs: Sequence[str] = tuple(MACS),
) -> Path:
    """Writes engines with placeholder files; returns the target's folder.

    A graph without a latency gets no table; n threads are n times as fast as one.
    """
    folder = path / "engines" / target
    folder.mkdir(parents=True)
    for name in graphs:
        (folder / f"{name}.engine").write_bytes(f"engine of {name}".encode())
    (folder / "packed.bin").write_bytes(b"packed" * 100)
    engines = EngineSet(
        target=target,
        backend=backend,
        host={"machine": "toy"},
        bundle_sha256=_sha256(path / "manifest.json"),
        engines=tuple(
            EngineEntry(
                graph=name,
                file=f"{name}.engine",
                weights_bytes=600,
                own_bytes=100,
                device_bytes=0,
                workspace_bytes=0,
                latency=tuple(
                    Latency(count, ms / count, 1.2 * ms / count, 1.5 * ms / count, 50)
                    for count in threads
                    for ms in [latencies_ms[name]]
                )
                if name in latencies_ms
                else (),
            )
            for name in graphs
        ),
        packed_file="packed.bin",
        files=files_of(folder),
    )
    (folder / "engines.json").write_bytes(engines.sealed().encoded())
    return folder


def edit_json(file: Path, change: Callable[[Any], None]) -> None:
    """Applies ``change`` to a JSON document in place."""
    document = json.loads(file.read_text(encoding="utf-8"))
    change(document)
    file.write_text(json.dumps(document), encoding="utf-8")


def add_axis(manifest: Path, key: str, options: Sequence[str]) -> None:
    """Gives every configuration one of ``options`` on an axis that skipc knows nothing of."""

    def change(document: dict[str, Any]) -> None:
        entries = [{"name": name, "parameters": 0, "macs": 0} for name in options]
        document["networks"][0]["axes"].append({"key": key, "options": entries})
        for index, entry in enumerate(document["configurations"]):
            name = options[index % len(options)]
            choice = {"axis": key, "taken": [name], "text": f"{key} {name}"}
            entry["parts"][0]["choices"].append(choice)

    edit_json(manifest, change)


def make_cascade(manifest: Path, name: str, graphs: Sequence[str], output: str) -> None:
    """Gives a configuration a route over ``graphs`` that stops where ``output`` is sure."""
    test = {"output": output, "scores": {"max-softmax": 1.0}, "threshold": 0.9}

    def change(document: dict[str, Any]) -> None:
        entry = next(each for each in document["configurations"] if each["name"] == name)
        last = len(graphs) - 1
        entry["route"] = [
            {"graph": graph, "test": None if number == last else test}
            for number, graph in enumerate(graphs)
        ]
        entry["stops"] = [1 / len(graphs)] * len(graphs)
        run = {s["graph"] for each in document["configurations"] for s in each["route"]}
        document["graphs"] = [graph for graph in document["graphs"] if graph["name"] in run]

    edit_json(manifest, change)


ESCAPES = (
    "../outside.bin",
    "golden/../../outside.bin",
    "/etc/passwd",
    "C:/windows/system.ini",
    "c:outside.bin",
    "golden\\inputs.npz",
    "..\\outside.bin",
    "golden//inputs.npz",
    "golden/",
    "./weights.bin",
    "weights.bin\0.txt",
    "weights\n.bin",
    "\ud800",
)
"""Paths that no document may name."""


def set_value(*keys: str | int, value: object) -> Callable[[Any], None]:
    """Returns a change of a JSON document: ``value`` at the place that ``keys`` lead to."""

    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


def list_anew(bundle: Path, name: str) -> None:
    """Lists a file of the bundle with the hash and size that it has now, as a forger would."""
    manifest = bundle / "manifest.json"

    def change(document: dict[str, list[dict[str, object]]]) -> None:
        entry = next(file for file in document["files"] if file["path"] == name)
        entry["sha256"] = _sha256(bundle / name)
        entry["size_bytes"] = (bundle / name).stat().st_size

    edit_json(manifest, change)
    for engines in bundle.glob("engines/*/engines.json"):
        edit_engines(engines, lambda d: d.update(bundle_sha256=_sha256(manifest)))


def edit_engines(file: Path, change: Callable[[Any], None]) -> None:
    """Applies ``change`` to an engines.json, and has its own hash in it again."""
    edit_json(file, change)
    edit_json(file, lambda d: d.update(sha256="0" * 64))
    digest = _sha256(file)
    edit_json(file, lambda d: d.update(sha256=digest))


def files_of(folder: Path) -> tuple[FileEntry, ...]:
    """Returns an entry for each file below ``folder``."""
    return tuple(
        FileEntry(
            file.relative_to(folder).as_posix(),
            file.stat().st_size,
            _sha256(file),
        )
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    )


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _cases(
    tensors: Sequence[TensorSpec], dimensions: tuple[Dimension, ...], cases: int
) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    typical = typical_sizes(dimensions)
    arrays = {}
    for case in range(cases):
        for tensor in tensors:
            shape = [max(size, 1) for size in tensor.shape_at(typical)]
            arrays[f"{case}/{tensor.name}"] = rng.integers(0, 9, shape).astype(tensor.dtype)
    return arrays
