"""A bundle's graphs, checked before a library follows what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime.backends.onnxruntime.locations import locations
from skipc.runtime.errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import GraphEntry


def checked_graph(bundle: Bundle, graph: GraphEntry) -> Path:
    """Returns a graph's file, which takes tensors from the weight store only.

    Raises:
        IntegrityError: The file is damaged or reads another file.
    """
    file = bundle.file(graph.file)
    try:
        foreign = sorted(locations(file.read_bytes()) - {bundle.manifest.weights_file})
    except ValueError as cause:
        raise IntegrityError(
            f"{file}: not an ONNX graph: {cause}. Copy the bundle again."
        ) from cause
    if foreign:
        raise IntegrityError(
            f"{file}: takes tensors from {foreign[0]!r}, but may only use"
            f" {bundle.manifest.weights_file!r}. The file was altered; copy the bundle again."
        )
    return file
