"""Trying error rates: what several memories lose, the largest rate, a bound that holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from skipc.compiler.policy.bound import holds
from skipc.compiler.tolerate.error_model import MOST_RATE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.tolerate.memory import Rates
    from skipc.compiler.tolerate.routes import InjectedRoute, Part

    Rows = NDArray[np.intp]

Number = TypeVar("Number", bound=float)

PATTERNS = 16
"""Patterns of errors by which a rate is chosen; each meets samples of its own."""
ALONE = 4
"""The same for one tensor alone, which only tells where it may move."""
MEMORIES = 8
"""Patterns of which the report tells the worst; each meets all samples."""
RATIO = 2**0.25
"""So near the largest rate is found."""
_FASTER, _LOWER = 4.0, 3
_CHOOSING, _CERTIFYING, _REPORTING = range(3)
_TOGETHER = 64


class Trials:
    """A configuration on the parts of the data.

    Args:
        route: The configuration.
        parts: For choosing, for the bound, for the report.
        seed: Of all patterns.
        threads: So many of them are tried at a time.
        only_one: Whether every pattern is that of one memory.
    """

    def __init__(
        self,
        route: InjectedRoute,
        parts: Sequence[Part],
        seed: int,
        threads: int,
        only_one: bool,
    ) -> None:
        self.route, self.only_one = route, only_one
        self._choosing, self._calibration, self._report = parts
        self._seed, self._threads = seed, threads

    @property
    def samples(self) -> int:
        """How many samples the bound is certified on."""
        return len(self._calibration)

    def loses(self, rates: Rates, patterns: int = PATTERNS) -> float:
        """Returns the share of the choosing part that is lost; patterns share its samples."""
        groups = np.array_split(np.arange(len(self._choosing)), patterns)

        def lost(number: int) -> int:
            key = (self._seed, _CHOOSING, number)
            return int(self.route.lost(self._choosing, groups[number], key, rates).sum())

        return sum(self._each(lost, range(patterns))) / len(self._choosing)

    def failures(self, rates: Rates, most: int) -> int:
        """Returns how many samples of the calibration part are lost, each in a new memory.

        So every sample and its pattern are drawn apart from all others, which the binomial
        takes for granted. It is not counted further than ``most``. Where all patterns are one
        memory's, that is what each sample meets.
        """
        count = len(self._calibration)
        if self.only_one:
            key = (self._seed, _CERTIFYING)
            return int(self.route.lost(self._calibration, np.arange(count), key, rates).sum())

        def lost(row: int) -> int:
            key = (self._seed, _CERTIFYING, row)
            return int(self.route.lost(self._calibration, np.array([row]), key, rates)[0])

        found = 0
        for start in range(0, count, _TOGETHER):
            found += sum(self._each(lost, range(start, min(start + _TOGETHER, count))))
            if found > most:
                break
        return found

    def reported(self, rates: Rates) -> Reported:
        """Returns what is right on the report part."""
        part = self._report
        rows = np.arange(len(part))

        def right(number: int) -> float:
            key = (self._seed, _REPORTING, number)
            return float((self.route.given(part, rows, key, rates) == part.labels).mean())

        each = self._each(right, range(1 if self.only_one else MEMORIES))
        return Reported(float(part.right.mean()), float(np.mean(each)), min(each))

    def _each(self, function: Callable[[int], Number], numbers: range) -> list[Number]:
        if self._threads == 1 or len(numbers) == 1:
            return [function(number) for number in numbers]
        with ThreadPoolExecutor(self._threads) as pool:
            return [*pool.map(function, numbers)]


@dataclass(frozen=True, slots=True)
class Reported:
    """Accuracies on the report part.

    Attributes:
        intact: With no errors.
        mean: On average over memories with errors.
        worst: In the worst of these memories.
    """

    intact: float
    mean: float
    worst: float


def largest_rate(loses: Callable[[float], float], most: float, bits: int) -> float:
    """Returns the largest rate found at which no more than ``most`` is lost; 0 where none is.

    The errors of a rate are among those of a larger one, so that what is lost hardly ever
    falls. Rates rise from one error among all ``bits`` until too much is lost; the last step
    is halved, on a logarithmic scale.
    """
    rate = min(1 / bits, MOST_RATE)
    for _ in range(_LOWER):
        if loses(rate) <= most:
            break
        rate /= _FASTER
    else:
        return 0.0
    good, bad = rate, rate * _FASTER
    while loses(min(bad, MOST_RATE)) <= most:
        good, bad = min(bad, MOST_RATE), bad * _FASTER
        if good == MOST_RATE:
            return good
    bad = min(bad, MOST_RATE)
    while bad / good > RATIO:
        middle = sqrt(good * bad)
        if loses(middle) <= most:
            good = middle
        else:
            bad = middle
    return good


class Certified(NamedTuple):
    """What a sequence of memories came to, the safest first.

    Attributes:
        last: Number of the last one that is certified; None where none is.
        failures: Samples that it loses, by configuration.
    """

    last: int | None
    failures: tuple[int, ...]


def last_certified(
    trials: Sequence[Trials], sequence: Sequence[Rates], share: float, confidence: float
) -> Certified:
    """Returns the last of a sequence of rates that every configuration is certified for.

    Fixed-sequence testing as in ``compiler/policy/bound.py``. "Some configuration loses more"
    is refuted where it is of each of them (an intersection-union test, Berger, 1982), so that
    several configurations cost no confidence.

    Args:
        trials: The configurations.
        sequence: Rates by tensor, fixed before the calibration part is looked at.
        share: The largest share that may be lost.
        confidence: How sure that must be.
    """
    found = Certified(None, ())
    for number, rates in enumerate(sequence):
        failures = []
        for one in trials:
            most = most_failures(one.samples, share, confidence)
            failures.append(one.failures(rates, most))
            if failures[-1] > most:
                return found
        found = Certified(number, tuple(failures))
    return found


def most_failures(samples: int, share: float, confidence: float) -> int:
    """Returns how many samples may be lost of a share that is certified; -1: not even none."""
    low, high = -1, samples
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle, samples, share, confidence):
            low = middle
        else:
            high = middle
    return low
