"""What ``skipc select`` may be told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from skipc.compiler.select.metrics import TOP1
from skipc.compiler.select.searches import DEFAULT_SEARCH

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from skipc.compiler.norms.statistics import NormMode
    from skipc.compiler.residual_scale import Scaling
    from skipc.compiler.select.data import DataOptions


class CostKind(str, Enum):
    """What ``--cost`` may minimise."""

    MACS = "macs"
    PARAMETERS = "parameters"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Constraints:
    """What the chosen configurations have to keep.

    Attributes:
        max_drop: Largest loss of accuracy against the full network, in percentage points (of
            another metric: in hundredths of it).
        max_latency_ms: Largest latency.
        keep: Units, or modules that hold several, that are never skipped.
        also: Units within others, or modules that hold several, that may be skipped alone.
        size: How many configurations to choose at most, the full network included.

    Of several networks an entry of ``keep`` and ``also`` holds for all, or behind a network's
    name and ``=`` for that one.
    """

    max_drop: float | None = None
    max_latency_ms: float | None = None
    keep: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    size: int = 6

    def of(self, network: str, networks: Collection[str]) -> Constraints:
        """Returns what a network has to keep."""

        def own(paths: tuple[str, ...]) -> tuple[str, ...]:
            split = [(path, *path.partition("=")) for path in paths]
            for_all = [
                path for path, name, equals, _ in split if not equals or name not in networks
            ]
            return (
                *for_all,
                *(unit for _, name, _, unit in split if unit and name == network),
            )

        return replace(self, keep=own(self.keep), also=own(self.also))


@dataclass(frozen=True, slots=True)
class SelectOptions:
    """How to select.

    Attributes:
        data: The labelled data.
        target: A profile's name, or a path to one.
        constraints: What the chosen configurations have to keep; see ``Constraints.of``.
        axes: The keys of the axes that the search decides.
        cost: What is minimised; None for the best that this host can tell.
        norm: How norms adapt; None for what suits the network.
        metric: ``top1`` or ``PKG.MODULE:FUNCTION``.
        search: The search's name.
        evaluations: How many configurations may be evaluated; None for what suits the search.
        scaling: How kept branches are scaled at test time; None for what the checkpoint says.
        threads: Threads of one evaluation and of one measured engine.
        rows: Samples per forward.
        memory_bytes: How much activations may take.
        cache: Folder for the scores of evaluated configurations; None for no cache.
        exits: Whether configurations may answer at the heads that lie beside the checkpoint.
        ray: Address of a Ray cluster, ``local`` for one on this machine; None for none.
    """

    data: DataOptions
    target: str = "cpu"
    constraints: Constraints = field(default_factory=Constraints)
    axes: tuple[str, ...] = ("skip",)
    cost: CostKind | None = None
    norm: NormMode | None = None
    metric: str = TOP1
    search: str = DEFAULT_SEARCH
    evaluations: int | None = None
    scaling: Scaling | None = None
    threads: int = 1
    rows: int = 64
    memory_bytes: int = 2 << 30
    cache: Path | None = None
    exits: bool = False
    ray: str | None = None
