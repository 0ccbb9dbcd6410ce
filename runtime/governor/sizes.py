"""How much longer a call of other sizes takes than one of the typical ones, which tables hold.

What was measured at the ends of each dimension is interpolated, on logarithmic scales; where
several dimensions change at once their factors multiply, corrected by what was measured where
all of them do. Without measurements a call costs what its sizes multiply to. What it does cost
is learnt from the first calls of its sizes, and from then on where it follows other ones, as
residuals are: a change over time says nothing about it.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .operating_point import OperatingPoint

_FIRST_CALLS = 2
_MEAN_OF = 10
_MOST_LEARNT = 64
_LOG_STEP_LIMIT = math.log(2.0)


@final
class CallSizes:
    """What is known of calls of each size. Not for several threads at once.

    Args:
        typical: The sizes that the tables hold, one for each free dimension.
        points: What was measured of configurations at other sizes.
    """

    def __init__(self, typical: Sequence[int], points: Iterable[OperatingPoint] = ()) -> None:
        self.typical = tuple(typical)
        """The sizes that the tables hold."""
        factors: dict[tuple[int, ...], list[float]] = {}
        for point in points:
            for at in point.by_size:
                factors.setdefault(at.sizes, []).append(math.log(at.factor))
        logs = {sizes: median(found) for sizes, found in factors.items()}
        self._along = [self._line(axis, logs) for axis in range(len(self.typical))]
        self._corners: list[tuple[list[float], float]] = []
        for sizes, log in logs.items():
            ways = self._ways(sizes)
            if sum(way != 0 for way in ways) > 1:
                self._corners.append((ways, log - self._apart(ways)))
        self._logs = {self.typical: 0.0}
        self._seen: dict[tuple[int, ...], int] = {}
        self._last = self.typical

    def factor(self, sizes: tuple[int, ...]) -> float:
        """Returns how much longer a call takes than one of the typical sizes."""
        log = self._logs.get(sizes)
        if log is None:
            near = min(self._logs, key=lambda known: _distance(known, sizes))
            log = self._logs[near] + self._tabled(sizes) - self._tabled(near)
        return math.exp(log)

    def observe(self, sizes: tuple[int, ...], log_factor: float) -> bool:
        """Takes note of a call's latency over what one of typical sizes is expected to take.

        Returns whether the sizes are known well enough to learn something else from the call.
        """
        last, self._last = self._last, sizes
        if sizes == self.typical:
            return True
        seen = self._seen.get(sizes, 0)
        if seen < _FIRST_CALLS or last != sizes:
            known = self._logs.pop(sizes, log_factor)
            change = min(max(log_factor - known, -_LOG_STEP_LIMIT), _LOG_STEP_LIMIT)
            self._logs[sizes] = known + change / min(seen + 1, _MEAN_OF)
            self._seen[sizes] = seen + 1
            if len(self._logs) > _MOST_LEARNT:
                self._forget(next(known for known in self._logs if known != self.typical))
        return seen >= _FIRST_CALLS

    def _forget(self, sizes: tuple[int, ...]) -> None:
        """Forgets sizes that were not seen for the longest time."""
        del self._logs[sizes], self._seen[sizes]

    def _line(
        self, axis: int, logs: dict[tuple[int, ...], float]
    ) -> list[tuple[float, float]]:
        """Returns what was measured along one dimension: ways from the typical size, logs."""
        found = [(0.0, 0.0)]
        for sizes, log in logs.items():
            ways = self._ways(sizes)
            if ways[axis] and not any(way for at, way in enumerate(ways) if at != axis):
                found.append((ways[axis], log))
        return sorted(found)

    def _ways(self, sizes: Sequence[int]) -> list[float]:
        """Returns how far each size is from the typical one, as logarithms of the ratio."""
        return [math.log(s / t) for s, t in zip(sizes, self.typical, strict=True)]

    def _tabled(self, sizes: tuple[int, ...]) -> float:
        """Returns the logarithm of the factor, by what was measured alone."""
        ways = self._ways(sizes)
        log = self._apart(ways)
        for corner, beyond in self._corners:
            shares = [way / end if end else 1.0 for way, end in zip(ways, corner, strict=True)]
            log += beyond * math.prod(min(max(share, 0.0), 1.0) for share in shares)
        return log

    def _apart(self, ways: Sequence[float]) -> float:
        """Returns the same where each dimension's factor is its own."""
        return sum(map(_along, self._along, ways))


def _along(line: Sequence[tuple[float, float]], way: float) -> float:
    """Returns the logarithm at some way along measured points, straight between them."""
    for (start, low), (end, high) in pairwise(line):
        if start <= way <= end:
            return low + (high - low) * (way - start) / (end - start)
    near = line[0] if way < line[0][0] else line[-1]
    return near[1] + way - near[0]


def _distance(one: Sequence[int], other: Sequence[int]) -> float:
    return sum(abs(math.log(a / b)) for a, b in zip(one, other, strict=True))
