"""Which bytes of the weight store which configurations share, from their graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        plain_bytes: What a plain file for each configuration would take: its graph and the
            tensors that it refers to.
    """

    sets: tuple[SharingSet, ...]
    graphs_bytes: int
    store_bytes: int
    plain_bytes: int

    @property
    def bundle_bytes(self) -> int:
        """Size of the graphs and the weight store."""
        return self.graphs_bytes + self.store_bytes


def sharing_of(manifest: Manifest, subnets: Sequence[Subnet]) -> Sharing:
    """Returns how the subnets share the weight store."""
    names: dict[tuple[str, ...], list[str]] = {}
    sizes: dict[tuple[str, ...], int] = {}
    for tensor in manifest.weights:
        users = [s for s in subnets if tensor.offset_bytes in s.tensors]
        key = tuple(subnet.configuration for subnet in users)
        if key:
            names.setdefault(key, []).append(users[0].tensors[tensor.offset_bytes])
            sizes[key] = sizes.get(key, 0) + tensor.size_bytes
    sets = [SharingSet(key, tuple(names[key]), size) for key, size in sizes.items()]
    graphs_bytes = sum(subnet.graph_bytes for subnet in subnets)
    used_bytes = sum(one.size_bytes * len(one.configurations) for one in sets)
    store = next(f for f in manifest.files if f.path == manifest.weights_file)
    return Sharing(
        sets=tuple(sorted(sets, key=lambda one: (-one.size_bytes, one.configurations))),
        graphs_bytes=graphs_bytes,
        store_bytes=store.size_bytes,
        plain_bytes=graphs_bytes + used_bytes,
    )
