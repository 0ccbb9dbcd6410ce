"""A choice that does not make the caller wait, where one can be made.

The governor knows nothing of device memory. Where not all engines are loaded, the one it
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
    from ..governor import Decision, OperatingPoint, State
    from ..governor.budget import Budget


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
    state: State,
    now_s: float,
    pinned: str | None,
    deadline_ms: float | None,
    engines: Mapping[str, Engine],
) -> Choice:
    """Returns what the governor decides, or the best of what is loaded until that is there.

    A loaded configuration stands in only if it fits the budget, or nothing does. A pinned
    one has no stand-in.

    Args:
        points: At least one.
        budget: What the call may take.
        state: What was learnt and spent; knows each point.
        now_s: The time.
        pinned: The name of the point that must run, or None.
        deadline_ms: What this call may take instead of the budget's latency.
        engines: The engines by configuration.
    """
    wanted = decide(points, budget, state, now_s, pinned, deadline_ms)
    engine = engines[wanted.configuration]
    if engine.ready():
        return Choice(wanted, learns=True)
    staying = engine.prepare() if pinned is None else frozenset()
    loaded = [point for point in points if point.configuration in staying]
    if loaded:
        instead = decide(loaded, budget, state, now_s, deadline_ms=deadline_ms)
        on_average = instead.binding not in ("latency", "accuracy")
        if instead.feasible or on_average or not wanted.feasible:
            note = f"{wanted.configuration!r} is being loaded; until then"
            feasible = wanted.feasible if on_average else instead.feasible
            ceiling = wanted.ceiling
            standing_in = replace(instead, note=note, feasible=feasible, ceiling=ceiling)
            return Choice(standing_in, learns=False)
    note = "The call waits while the engine is loaded:"
    return Choice(replace(wanted, note=note), learns=False)
