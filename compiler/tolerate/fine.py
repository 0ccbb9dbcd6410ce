"""Every tensor in a memory of its own: greedy, by what each alone costs.

What a tensor loses at each level is measured with all others intact. Then one tensor after the
other moves to a cheaper level, each time the one that gains most for what is lost. The moves
are one sequence, whatever the bound; how many are made is found by trying them together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from skipc.compiler.tolerate.trials import ALONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skipc.compiler.tolerate.trials import Trials

_LEAST_LOSS = 1e-6
"""What a move loses at least, so that nothing is free: by bit that fails more often."""
_NOTHING = 1e-12


class Level(NamedTuple):
    """Where a tensor may lie.

    Attributes:
        rate: Of errors.
        gain: What a byte there is worth, over one at the first level.
        capacity_bytes: What it holds; None for as much as one likes.
    """

    rate: float
    gain: float
    capacity_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor that is given a place.

    Attributes:
        name: Its name.
        size_bytes: What it takes.
        users: The configurations that read it.
    """

    name: str
    size_bytes: int
    users: frozenset[str]


Losses = dict[tuple[str, str, int], float]
"""By configuration, tensor and level, the share that is lost."""


def sensitivities(
    trials: Sequence[Trials],
    tensors: Sequence[Placed],
    levels: Sequence[Level],
    start: float,
    most: float,
    advance: Callable[[int, int], None],
) -> Losses:
    """Returns what each configuration loses where one tensor alone is damaged.

    Args:
        trials: The configurations.
        tensors: The tensors.
        levels: In the order of their rates.
        start: Up to this rate no tensor alone loses anything worth telling.
        most: Where so much is lost, levels of larger rates lose everything.
        advance: Told how many of how many tensors are done.
    """
    found: Losses = {}
    pairs = [(one, tensor) for one in trials for tensor in tensors]
    for done, (one, tensor) in enumerate(pairs, start=1):
        lost = 0.0
        if one.route.name in tensor.users:
            for number in sorted(range(len(levels)), key=lambda each: levels[each].rate):
                rate = levels[number].rate
                if lost > most:
                    lost = 1.0
                elif rate > start:
                    lost = max(lost, one.loses({tensor.name: rate}, ALONE))
                found[one.route.name, tensor.name, number] = lost
        advance(done, len(pairs))
    return found


class Move(NamedTuple):
    """A tensor goes to another level."""

    tensor: str
    level: int


def moves(
    tensors: Sequence[Placed], levels: Sequence[Level], losses: Losses, most: float
) -> list[Move]:
    """Returns which tensor moves to which level, the most gain for what is lost first.

    All begin at the first level. It ends where a configuration would lose more than ``most``,
    or nothing fits anywhere any more.
    """
    at = dict.fromkeys((tensor.name for tensor in tensors), 0)
    free = [inf if each.capacity_bytes is None else each.capacity_bytes for each in levels]
    total: Counter[str] = Counter()
    made: list[Move] = []
    while True:
        best, worth = None, 0.0
        for tensor in tensors:
            here = at[tensor.name]
            for number, level in enumerate(levels):
                gain = (level.gain - levels[here].gain) * tensor.size_bytes
                if gain <= 0 or free[number] < tensor.size_bytes:
                    continue
                more = _more(losses, tensor, here, number)
                if any(total[user] + each > most for user, each in more.items()):
                    continue
                rises = max(level.rate - levels[here].rate, 0.0) * 8 * tensor.size_bytes
                cost = max(*more.values(), 0.0) + _LEAST_LOSS * rises + _NOTHING
                if gain * len(tensor.users) / cost > worth:
                    best, worth = (tensor, number), gain * len(tensor.users) / cost
        if best is None:
            return made
        tensor, number = best
        here = at[tensor.name]
        total.update(_more(losses, tensor, here, number))
        free[here] += tensor.size_bytes
        free[number] -= tensor.size_bytes
        at[tensor.name] = number
        made.append(Move(tensor.name, number))


def _more(losses: Losses, tensor: Placed, here: int, there: int) -> dict[str, float]:
    """Returns by configuration how much more a tensor loses at another level."""
    return {
        user: losses[user, tensor.name, there] - losses[user, tensor.name, here]
        for user in tensor.users
    }


def after(tensors: Sequence[Placed], made: Sequence[Move]) -> dict[str, int]:
    """Returns the level of each tensor after some moves."""
    found = dict.fromkeys((tensor.name for tensor in tensors), 0)
    return found | {move.tensor: move.level for move in made}


def most_moves(loses: Callable[[int], float], count: int, most: float) -> int:
    """Returns how many of ``count`` moves lose no more than ``most``, found by halving."""
    if loses(count) <= most:
        return count
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if loses(middle) <= most:
            low = middle
        else:
            high = middle
    return low
