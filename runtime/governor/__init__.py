"""The governor: pure functions over frozen values, from what was learnt to the next choice.

``decide`` picks a configuration in a ``State``; ``transitions`` makes the next state from what
then happened. Nothing here reads a clock, a meter or a file. What ``Keeper`` and
``CallSizes`` remember changes with calls.
"""

from __future__ import annotations

from .decide import decide
from .decision import Decision
from .energy import Spent
from .operating_point import OperatingPoint
from .transitions import (
    State,
    after_call,
    after_choice,
    after_reading,
    after_refusal,
    before_choice,
    first_state,
    with_point,
)

__all__ = [
    "Decision",
    "OperatingPoint",
    "Spent",
    "State",
    "after_call",
    "after_choice",
    "after_reading",
    "after_refusal",
    "before_choice",
    "decide",
    "first_state",
    "with_point",
]
