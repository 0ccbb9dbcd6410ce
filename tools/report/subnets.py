"""What the graphs hold, by module and by place in the weight store, and how they share it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.extras import require
from skipc.runtime.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.bundle.manifest import ConfigurationEntry, GraphEntry, Manifest


# `skipc build` writes it to every node (compiler/graph/index.py, which needs onnx_ir).
MODULE_KEY = "skipc.module"


@dataclass(frozen=True, slots=True)
class Subnet:
    """What a graph holds.

    Attributes:
        graph_bytes: Size of the graph's file.
        nodes: How many nodes it has.
        operators: By module path, the operators of the nodes in it or in a module inside.
        tensors: By offset in the weight store, the tensors that it refers to: their names.
    """

    graph_bytes: int
    nodes: int
    operators: Mapping[str, Mapping[str, int]]
    tensors: Mapping[int, str]


def read_subnet(bundle: Bundle, entry: GraphEntry) -> Subnet:
    """Returns what a graph holds. No weights are read.

    Raises:
        ExtraMissingError: onnx is not installed.
        IntegrityError: The graph is damaged, or refers to what the bundle does not list.
    """
    onnx = require("onnx", "report")
    path = bundle.graph_file(entry)
    broken = require("google.protobuf.message", "report").DecodeError
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except broken as cause:
        raise IntegrityError(
            f"{path}: not an ONNX graph: {cause}. Copy the bundle again."
        ) from cause
    offsets = {tensor.offset_bytes for tensor in bundle.manifest.weights}
    tensors: dict[int, str] = {}
    for tensor in graph.initializer:
        offset = _offset(tensor)
        if offset is None:
            continue  # a small one, which lies in the graph
        if offset not in offsets:
            raise IntegrityError(
                f"{path}: the tensor {tensor.name!r} is said to lie at byte {offset} of"
                f" {bundle.manifest.weights_file!r}, where the manifest lists none. The file"
                " was altered; copy the bundle again."
            )
        tensors.setdefault(offset, tensor.name)
    size_bytes = path.stat().st_size
    return Subnet(size_bytes, len(graph.node), _operators(graph.node), tensors)


def _offset(tensor: Any) -> int | None:
    """Returns where in the weight store a tensor lies; None if it lies in the graph."""
    if not tensor.external_data:
        return None
    told = {entry.key: entry.value for entry in tensor.external_data}
    text = told.get("offset", "0")
    # Of a graph that somebody altered; -1 is listed nowhere.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


def _operators(nodes: Iterable[Any]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for node in nodes:
        for entry in node.metadata_props:
            if entry.key != MODULE_KEY:
                continue
            parts = entry.value.split(".")
            for count in range(1, len(parts) + 1):
                module = ".".join(parts[:count])
                found.setdefault(module, Counter())[node.op_type] += 1
    return found


@dataclass(frozen=True, slots=True)
class SharingSet:
    """The tensors that exactly these configurations refer to.

    Attributes:
        configurations: Their names, in the manifest's order.
        tensors: The tensors' names in one of the graphs.
        size_bytes: What they take together.
    """

    configurations: tuple[str, ...]
    tensors: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Sharing:
    """How a family shares its weights.

    Attributes:
        sets: By falling size; together every tensor that a graph refers to.
        bundle_bytes: Size of all graphs and of the weight store's file.
        plain_bytes: What plain files for each configuration would take: its graphs and the
            tensors that they refer to.
    """

    sets: tuple[SharingSet, ...]
    bundle_bytes: int
    plain_bytes: int


def engines_bytes(manifest: Manifest, engines: EngineSet) -> tuple[int, int]:
    """Returns what a target's engines take on disk, and what they would without sharing."""
    sizes = {file.path: file.size_bytes for file in engines.files}
    used = [
        engines.engine(graph.name)
        for entry in manifest.configurations
        for graph in manifest.graphs_of(entry)
    ]
    alone = sum(engine.weights_bytes + sizes[engine.file] for engine in used)
    return sum(sizes.values()), alone


def files_of(
    manifest: Manifest,
    entry: ConfigurationEntry,
    subnets: Mapping[str, Subnet],
    network: str | None = None,
) -> list[Subnet]:
    """Returns what the files hold that a configuration runs, each once; pieces share one.

    With ``network`` those of that network alone.
    """
    graphs = manifest.graphs_of(entry)
    return list(
        {g.file: subnets[g.name] for g in graphs if network in (None, g.network)}.values()
    )


def sharing_of(manifest: Manifest, subnets: Mapping[str, Subnet]) -> Sharing:
    """Returns how the configurations share the weight store, by what their graphs hold."""
    parts = {
        entry.name: files_of(manifest, entry, subnets) for entry in manifest.configurations
    }
    found: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for tensor in manifest.weights:
        called = {
            name: subnet.tensors[tensor.offset_bytes]
            for name, own in parts.items()
            for subnet in own
            if tensor.offset_bytes in subnet.tensors
        }
        if called:
            named = next(iter(called.values())), tensor.size_bytes
            found.setdefault(tuple(called), []).append(named)
    sets = [
        SharingSet(key, tuple(name for name, _ in of), sum(size for _, size in of))
        for key, of in found.items()
    ]
    used_bytes = sum(one.size_bytes * len(one.configurations) for one in sets)
    files = {file.path: file.size_bytes for file in manifest.files}
    held = {manifest.weights_file, *(graph.file for graph in manifest.graphs)}
    return Sharing(
        sets=tuple(sorted(sets, key=lambda one: (-one.size_bytes, one.configurations))),
        bundle_bytes=sum(files[path] for path in held),
        plain_bytes=used_bytes + sum(s.graph_bytes for own in parts.values() for s in own),
    )
