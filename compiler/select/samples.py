"""Labelled data in memory, and its three disjoint parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs by the network's input names, each (N, ...), and their targets, (N, ...)."""

    inputs: Mapping[str, NDArray[Any]]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class Parts:
    """Disjoint parts of the data.

    Attributes:
        reestimate: Norm statistics are re-estimated on it; its targets are not used.
        selection: Configurations are compared on it.
        report: What is printed and written as a configuration's accuracy comes from it.
    """

    reestimate: Samples
    selection: Samples
    report: Samples
