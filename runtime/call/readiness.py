"""A choice that does not make the caller wait, where one can be made.

The governor knows nothing of device memory. Where not all engines are loaded, the one that it
wants may have to be loaded first: it is then loaded in the background, and until it is there
the best of the loaded ones runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..governor import decide

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..backends import Engine
    from ..bundle.route import Stage
    from ..governor import Decision, OperatingPoint, State
    from ..governor.budget import Budget
    from ..load.residency import Residency


@dataclass(frozen=True, slots=True)
class Readiness:
    """Which configurations begin at once: those whose first graph is loaded."""

    loads: Residency[Engine]
    first: Mapping[str, str]

    @classmethod
    def of(cls, routes: Mapping[str, Sequence[Stage]], loads: Residency[Engine]) -> Readiness:
        """Returns the readiness of configurations with these routes."""
        return cls(loads, {name: route[0].graph for name, route in routes.items()})

    def ready(self, configuration: str) -> bool:
        """Tells whether a configuration begins at once."""
        return self.loads.ready(self.first[configuration])

    def prepare(self, configuration: str) -> frozenset[str]:
        """Begins to load a configuration; returns those that stay ready until it is there."""
        staying = self.loads.prepare(self.first[configuration])
        return frozenset(name for name, graph in self.first.items() if graph in staying)


def choose(
    points: Sequence[OperatingPoint],
    budget: Budget,
    state: State,
    now_s: float,
    pinned: str | None,
    deadline_ms: float | None,
    readiness: Readiness,
) -> Decision:
    """Returns what the governor decides, or the best of what is loaded until that is there.

    A loaded configuration stands in only if it fits the budget, or nothing does. A pinned
    one has no stand-in. All but ``readiness`` is as ``decide`` takes it.
    """
    wanted = decide(points, budget, state, now_s, pinned, deadline_ms)
    if readiness.ready(wanted.configuration):
        return wanted
    staying = readiness.prepare(wanted.configuration) if pinned is None else frozenset()
    loaded = [point for point in points if point.configuration in staying]
    if loaded:
        instead = decide(loaded, budget, state, now_s, deadline_ms=deadline_ms)
        on_average = instead.binding not in ("latency", "accuracy")
        if instead.feasible or on_average or not wanted.feasible:
            return replace(
                instead,
                note=f"{wanted.configuration!r} is being loaded; until then",
                feasible=wanted.feasible if on_average else instead.feasible,
                ceiling=wanted.ceiling,
                loading=True,
            )
    return replace(wanted, note="The call waits while the engine is loaded:", loading=True)
