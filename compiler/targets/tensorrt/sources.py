"""What engines are built from: the bundle's graphs, and pieces that are cut out of them.

TensorRT takes ONNX, so a route's pieces are cut before it. A piece names its weights in the
bundle's own store, of which nothing is copied.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import write_whole
from skipc.compiler.extras import require

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import GraphEntry


def graph_sources(bundle: Bundle, folder: Path) -> dict[str, Path]:
    """Returns the ONNX file of each of a bundle's graphs, by name.

    Args:
        bundle: The bundle.
        folder: Where pieces are written, each named after its graph.

    Raises:
        IntegrityError: A graph takes tensors from elsewhere than the bundle's store.
        CompileError: There are pieces, and no onnx-ir.
    """
    manifest = bundle.manifest
    users = Counter(graph.file for graph in manifest.graphs)
    found: dict[str, Path] = {}
    for graph in manifest.graphs:
        whole = bundle.graph_file(graph)
        if users[graph.file] == 1:
            found[graph.name] = whole
            continue
        found[graph.name] = folder / f"{graph.name}.onnx"
        write_whole(found[graph.name], _piece(whole, graph))
    return found


def _piece(whole: Path, graph: GraphEntry) -> bytes:
    require("onnx_ir", "finish")
    import onnx_ir as ir

    from skipc.compiler.graph.pieces import extracted

    inputs, outputs = ([s.name for s in specs] for specs in (graph.inputs, graph.outputs))
    piece = ir.to_proto(extracted(ir.load(whole), inputs, outputs))
    # onnx-ir collects them in a set, but a plan is found again by its graph's hash.
    for values in (piece.graph.initializer, piece.graph.value_info):
        values.sort(key=lambda value: value.name)
    encoded: bytes = piece.SerializeToString(deterministic=True)
    return encoded
