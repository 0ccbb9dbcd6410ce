"""What the graphs hold: nodes by module, tensors by place in the weight store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.extras import require
from skipc.compiler.targets.graphs import checked_graph
from skipc.runtime.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import GraphEntry

# `skipc build` writes it to every node (compiler/graph/index.py, which needs onnx_ir).
MODULE_KEY = "skipc.module"


@dataclass(frozen=True, slots=True)
class Subnet:
    """What a graph holds.

    Attributes:
        graph: The graph's name.
        graph_bytes: Size of the graph's file.
        nodes: How many nodes it has.
        operators: By module path, the operators of the nodes in it or in a module inside.
        tensors: By offset in the weight store, the tensors that it refers to: their names.
    """

    graph: str
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
    path = checked_graph(bundle, entry)
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
    return Subnet(
        entry.name,
        path.stat().st_size,
        len(graph.node),
        _operators(graph.node),
        tensors,
    )


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
