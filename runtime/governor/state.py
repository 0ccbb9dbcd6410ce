"""Everything that decisions depend on besides the points and the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .account import Account
    from .ceiling import Ceiling
    from .energy import EnergyEstimate
    from .latency import LatencyEstimate


class State(NamedTuple):
    """What was learnt and spent until now.

    Attributes:
        latency: How long calls take.
        energy: How much energy they take.
        ceiling: What the latency budget admits.
        account: What the average budgets granted and what was spent; None without one.
    """

    latency: LatencyEstimate
    energy: EnergyEstimate
    ceiling: Ceiling
    account: Account | None = None
