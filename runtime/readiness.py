"""A choice that does not make the caller wait, where one can be made.

The governor knows nothing of device memory. Where not all engines are loaded, the one it
wants may have to be loaded first: it is then loaded in the background, and until it is there
the best of the loaded ones runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .governor import decide

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .backends import Engine
    from .budget import Budget
    from .governor import Decision, Estimate, OperatingPoint


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs now.

    Attributes:
        decision: The configuration, and why.
        learns: Whether its latency says something about the configuration: not while an
            engine is loaded, which the call waits for or runs beside.
    """

    decision: Decision
    learns: bool


def choose(
    points: Sequence[OperatingPoint],
    budget: Budget,
    estimate: Estimate,
    pinned: str | None,
    engines: Mapping[str, Engine],
) -> Choice:
    """Returns what the governor decides, or the best of what is loaded until that is there.

    A loaded configuration stands in only if it fits the budget, or nothing does. A pinned
    one has no stand-in.

    Args:
        points: At least one.
        budget: What the call may take.
        estimate: What was learnt; has a residual for each point.
        pinned: The name of the point that must run, or None.
        engines: The engines by configuration.
    """
    wanted = decide(points, budget, estimate, pinned)
    engine = engines[wanted.configuration]
    if engine.ready():
        return Choice(wanted, learns=True)
    staying = engine.prepare() if pinned is None else frozenset()
    loaded = [point for point in points if point.configuration in staying]
    if loaded:
        instead = decide(loaded, budget, estimate)
        if instead.feasible or not wanted.feasible:
            coming = wanted.configuration
            reason = f"{coming!r} is being loaded; until then {instead.reason}"
            return Choice(replace(instead, reason=reason), learns=False)
    reason = f"{wanted.reason} The call waits while it is loaded."
    return Choice(replace(wanted, reason=reason), learns=False)
