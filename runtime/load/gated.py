"""What the gates of a graph decide about, and what their decisions are in work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle.gates import CAP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.engines import EngineSet
    from ..bundle.manifest import GraphEntry, Manifest


@dataclass(frozen=True, slots=True)
class Gated:
    """The units that gates decide about, and parts of their channels.

    Attributes:
        units: Their names.
        macs: What each computes.
        fixed_macs: What is computed besides.
        most_macs: What is computed where as many run as may: that is what was measured.
    """

    units: tuple[str, ...]
    macs: tuple[int, ...]
    fixed_macs: int
    most_macs: int

    @classmethod
    def of(cls, manifest: Manifest, graph: GraphEntry, engines: EngineSet | None) -> Gated:
        """Returns it of a graph with gates; without ``engines`` all units may run."""
        known = {option.name: option.macs for option in manifest.options("gates")}
        macs = tuple(known.get(unit, 0) for unit in graph.gates)
        fixed_macs = max(graph.macs - sum(macs), 1)
        set_ = {} if engines is None else engines.engine(graph.name).settings
        (cap,) = set_.get(CAP, (len(macs),))
        first = sum(map(len, graph.gated_units[: int(cap)]))
        return cls(graph.gates, macs, fixed_macs, fixed_macs + sum(macs[:first]))

    def shares(self, decisions: NDArray[Any]) -> dict[str, float]:
        """Returns by unit the share of the rows that it ran for."""
        return dict(zip(self.units, decisions.mean(0).tolist(), strict=True))

    def work(self, decisions: NDArray[Any]) -> float:
        """Returns what was computed, over the most that may be: for a row on average."""
        ran = float(decisions.mean(0) @ np.array(self.macs))
        return (self.fixed_macs + ran) / self.most_macs
