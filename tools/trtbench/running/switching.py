"""What a switch costs: the first call of B after a call of A, over B's calls after B.

B's median of the loop would not do as the reference: there, too, every call follows one of
another configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skipc.runtime.backends import Arrays, Engine

_LEAST_REPEATS = 3
_MOST_REPEATS = 20


@dataclass(frozen=True, slots=True)
class Switching:
    """The cost of every switch.

    Attributes:
        repeats: How often each was made.
        steady_ms: Per configuration, the median of its calls that follow one of its own.
        first_ms: Per configuration A and other configuration B, the median of B's calls that
            follow one of A.
    """

    repeats: int
    steady_ms: Mapping[str, float]
    first_ms: Mapping[str, Mapping[str, float]]

    def ratios(self) -> dict[str, dict[str, float]]:
        """Returns, for A and B, B's first call after A over B's steady median."""
        return {
            before: {after: ms / self.steady_ms[after] for after, ms in row.items()}
            for before, row in self.first_ms.items()
        }

    def worst(self) -> tuple[str, str, float]:
        """Returns the pair that costs most, relatively: A, B and the ratio."""
        pairs = [(a, b, ratio) for a, row in self.ratios().items() for b, ratio in row.items()]
        return max(pairs, key=lambda pair: pair[2])


def measure_switches(
    engines: Mapping[str, Engine],
    case: Arrays,
    patience_s: float,
    now_ns: Callable[[], int],
) -> Switching | None:
    """Returns the cost of every switch, or None if there is only one configuration.

    Every ordered pair is run as A, B, B, between 3 and 20 times.

    Args:
        engines: By configuration, warm.
        case: The inputs of each call.
        patience_s: No further repeat begins after this many seconds.
        now_ns: The clock.

    Raises:
        BackendError: A call failed.
    """
    if len(engines) < 2:
        return None

    def timed_ms(engine: Engine) -> float:
        start_ns = now_ns()
        engine.run(case)
        return max(now_ns() - start_ns, 1) / 1e6

    pairs = list(permutations(engines, 2))
    first: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
    steady: dict[str, list[float]] = {name: [] for name in engines}
    end_ns = now_ns() + patience_s * 1e9
    repeats = 0
    while repeats < _LEAST_REPEATS or (repeats < _MOST_REPEATS and now_ns() < end_ns):
        for before, after in pairs:
            engines[before].run(case)
            first[before, after].append(timed_ms(engines[after]))
            steady[after].append(timed_ms(engines[after]))
        repeats += 1
    return Switching(
        repeats,
        {name: median(times) for name, times in steady.items()},
        {
            before: {
                after: median(first[before, after]) for after in engines if after != before
            }
            for before in engines
        },
    )
