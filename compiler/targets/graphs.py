"""The subnets' graphs, checked before a library follows what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime.backends.onnxruntime.locations import locations
from skipc.runtime.errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import ConfigurationEntry


def checked_graph(bundle: Bundle, entry: ConfigurationEntry) -> Path:
    """Returns a configuration's graph, which takes tensors from the weight store only.

    Raises:
        IntegrityError: The graph is damaged or reads another file.
    """
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
