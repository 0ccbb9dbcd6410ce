"""Which bits fail, drawn so that a rate that is raised keeps the errors that there were.

Every bit fails at a moment of its own, the first event of a Poisson process of rate 1. At an
error rate p those have failed whose moment is up to -log(1 - p): each of them with the
probability p, apart from all others. The events of all bits are one process, drawn in the
order of time from one generator (Philox, Salmon et al., 2011), so that the work is in the
number of errors and not in that of bits.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skipc.compiler.errors import TolerateError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_EVENTS = 50_000_000
_SPARE = 4
"""Standard deviations: so that events are drawn at one go, as a rule."""


class Events(NamedTuple):
    """Events at the bits of a memory, in the order of time.

    Attributes:
        bits: Numbers of the bits.
        times: When.
        ones: What a cell holds that is stuck from then on.
    """

    bits: NDArray[np.int64]
    times: NDArray[np.float64]
    ones: NDArray[np.bool_]

    def some(self, rows: NDArray[Any]) -> Events:
        """Returns some of them."""
        return Events(self.bits[rows], self.times[rows], self.ones[rows])


def moment_of(rate: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Returns the time up to which a bit has had an event with the probability ``rate``."""
    return np.asarray(-np.log1p(-np.asarray(rate, np.float64)))


def key_of(*numbers: int) -> NDArray[np.uint64]:
    """Returns the key of a pattern: the same numbers give the same errors."""
    return np.random.SeedSequence(numbers).generate_state(2, np.uint64).astype(np.uint64)


def drawn(key: NDArray[np.uint64], stream: int, bits: int, rate: float) -> Events:
    """Returns the events at ``bits`` bits that the largest rate is enough for.

    Args:
        key: Of the pattern.
        stream: A number for what has these bits: others have events of their own.
        bits: How many there are.
        rate: Largest rate of a bit, up to 0.5.

    Raises:
        TolerateError: They are too many to be held.
    """
    until = float(moment_of(rate))
    if bits * until > MOST_EVENTS:
        raise TolerateError(
            f"a rate of {rate:g} over {bits} bits is {bits * until:.2g} errors, more than the"
            f" {MOST_EVENTS:.0e} that are drawn. Look at lower rates, or a smaller bundle."
        )
    times, places = (
        np.random.Generator(np.random.Philox(key=key, counter=[0, 0, kind, stream]))
        for kind in range(2)
    )
    mean = bits * until
    last, count, parts = 0.0, int(mean + _SPARE * sqrt(mean)) + 1, []
    while last < until:
        moments = last + times.standard_exponential(count).cumsum() / max(bits, 1)
        last = float(moments[-1])
        parts.append(moments[: np.searchsorted(moments, until, side="right")])
    joined = np.concatenate(parts) if parts else np.zeros(0)
    at = places.integers(2 * max(bits, 1), size=len(joined))
    found = Events(at >> 1, joined, (at & 1).astype(bool))
    _, first = np.unique(found.bits, return_index=True)
    if len(first) == len(found.bits):
        return found
    return found.some(np.sort(first))


def with_errors(
    array: NDArray[Any], bits: NDArray[np.int64], ones: NDArray[np.bool_] | None
) -> NDArray[Any]:
    """Returns a copy of an array in which some bits are other ones.

    Args:
        array: Any array.
        bits: The bits, no two the same: the least significant of the first value is number 0.
        ones: What each is stuck at; None where they are flipped.
    """
    changed = np.array(array, order="C", copy=True)
    octets = changed.reshape(-1).view(np.uint8)
    places, masks = bits >> 3, (np.uint8(1) << (bits & 7).astype(np.uint8)).astype(np.uint8)
    if ones is not None:
        wrong = ((octets[places] & masks) != 0) != ones
        places, masks = places[wrong], masks[wrong]
    np.bitwise_xor.at(octets, places, masks)
    return changed


def correct(array: NDArray[Any], bits: NDArray[np.int64], low: float, high: float) -> None:
    """Makes zero, in place, what errors have moved out of a range, or made no number.

    Args:
        array: An array of values in that range, with errors.
        bits: Which bits are wrong.
        low: The smallest of the values before.
        high: The largest.
    """
    values = array.reshape(-1)
    places = bits // (8 * array.itemsize)
    hit = values[places]
    values[places[~((hit >= low) & (hit <= high))]] = 0
