"""Which bytes of the weight store which configurations share, from their graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.runtime.bundle.manifest import Manifest
    from skipc.tools.report.subnets import Subnet


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
        graphs_bytes: Size of all graphs.
        store_bytes: Size of the weight store's file.
        plain_bytes: What plain files for each configuration would take: its graphs and the
            tensors that they refer to.
    """

    sets: tuple[SharingSet, ...]
    graphs_bytes: int
    store_bytes: int
    plain_bytes: int

    @property
    def bundle_bytes(self) -> int:
        """Size of the graphs and the weight store."""
        return self.graphs_bytes + self.store_bytes


def sharing_of(manifest: Manifest, subnets: Mapping[str, Subnet]) -> Sharing:
    """Returns how the configurations share the weight store, by what their graphs hold."""
    parts = {
        entry.name: [subnets[graph.name] for graph in manifest.graphs_of(entry)]
        for entry in manifest.configurations
    }
    names: dict[tuple[str, ...], list[str]] = {}
    sizes: dict[tuple[str, ...], int] = {}
    for tensor in manifest.weights:
        called = {
            name: subnet.tensors[tensor.offset_bytes]
            for name, own in parts.items()
            for subnet in own
            if tensor.offset_bytes in subnet.tensors
        }
        if called:
            key = tuple(called)
            names.setdefault(key, []).append(called[key[0]])
            sizes[key] = sizes.get(key, 0) + tensor.size_bytes
    sets = [SharingSet(key, tuple(names[key]), size) for key, size in sizes.items()]
    used_bytes = sum(one.size_bytes * len(one.configurations) for one in sets)
    files = {file.path: file.size_bytes for file in manifest.files}
    graph_files = {graph.file for graph in manifest.graphs}
    return Sharing(
        sets=tuple(sorted(sets, key=lambda one: (-one.size_bytes, one.configurations))),
        graphs_bytes=sum(files[path] for path in graph_files),
        store_bytes=files[manifest.weights_file],
        plain_bytes=used_bytes + sum(s.graph_bytes for own in parts.values() for s in own),
    )
