"""The default: greedy as far as it is affordable, then the front's neighbours.

Greedy selection asks anew, after each skipped unit, which one is missed least: n(n+1)/2
evaluations for n units. Where that is more than may be spent, the ranking of the units alone
stands in for it (2n evaluations). The rest goes to configurations that differ in
one decision, or in one swapped for another, from those on the front.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from skipc.compiler.select.searches.beam import greedy_evaluations, grow
from skipc.compiler.select.searches.rank import nested, ranked

if TYPE_CHECKING:
    from skipc.compiler.select.candidates import Bits, Evaluate, Space

_ROUND = 8


def search(space: Space, evaluate: Evaluate, seed: int) -> None:
    """Runs greedy selection or the ranking, then improves what is on the front."""
    if greedy_evaluations(space) <= evaluate.left:
        grow(space, evaluate, width=1)
    else:
        evaluate(nested(space, ranked(space, evaluate)))
    improve(space, evaluate, random.Random(seed))


def improve(space: Space, evaluate: Evaluate, rng: random.Random) -> None:
    """Evaluates neighbours of the front until none is left."""
    while True:
        neighbours = [
            bits for found in evaluate.front for bits in _neighbours(space, found.bits)
        ]
        new = [bits for bits in dict.fromkeys(neighbours) if bits not in evaluate.candidates]
        if not new:
            return
        rng.shuffle(new)
        evaluate(new[:_ROUND])


def _neighbours(space: Space, bits: Bits) -> list[Bits]:
    """Returns what differs from ``bits`` in one unit, or has one skipped unit exchanged."""
    skipped = [unit for unit in space.free if bits[unit]]
    kept = [unit for unit in space.free if not bits[unit]]
    flips = [{unit} for unit in space.free]
    swaps = [{one, other} for one in skipped for other in kept]
    return [
        tuple(bit != (index in change) for index, bit in enumerate(bits))
        for change in (*flips, *swaps)
    ]
