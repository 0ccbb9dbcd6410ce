"""Gates with three actions: answer, go on to the next network, or jump to a later one.

The network selection of Adaptive Neural Networks for Efficient Inference (Bolukbasi et al.,
2017): an input that is hopeless for a small network and for the middle one does not ask the
middle one. Learnt backwards, as in ``recursion``; what a later network will come to is counted
from where it is entered, since there are several ways to it. Both limits are of one score,
as in a test of the runtime: answered from ``threshold`` on, sent on below ``below``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skipc.compiler.policy.recursion import direction, weighted
from skipc.runtime.bundle.route import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Going = NDArray[np.intp]
    Gate = Callable[[int, Mapping[int, Floats]], Going]


class Cuts(NamedTuple):
    """Two limits of a score, and what all samples cost with them."""

    cost: float
    threshold: float
    below: float


def backward_jumping(
    prices: Floats, stage_ms: Floats, targets: Sequence[Sequence[int]], gate: Gate
) -> Floats:
    """Returns what each sample costs under the gates, (N,).

    Args:
        prices: Of answering at each exit, time apart, (exits, N).
        stage_ms: What each stage takes, (exits,).
        targets: By exit, the stages behind the next one that it may jump to.
        gate: Called with an exit's number, from the last but one to the first, and what each
            sample costs from there by where it goes: the exit itself, the next, or a target.
            Returns where each goes.
    """
    last = len(prices) - 1
    entering: dict[int, Floats] = {last: stage_ms[last] + prices[last]}
    for number in reversed(range(last)):
        ways = {number: prices[number], number + 1: entering[number + 1]}
        ways |= {target: entering[target] for target in targets[number]}
        going = gate(number, ways)
        taken = sum(np.where(going == way, cost, 0.0) for way, cost in ways.items())
        entering[number] = stage_ms[number] + taken
    return entering[0]


def fitted_jump(
    scores: Floats, answer: Floats, onward: Floats, over: Floats
) -> tuple[Floats, Cuts]:
    """Returns weights of the scores, and limits of their sum, at which samples cost little.

    The weights are a logistic regression's: of who should be answered, or of who should not
    jump, whichever comes to less with the best limits that there are for it.

    Args:
        scores: (N, scores), between 0 and 1.
        answer: What each sample costs if it is answered, (N,).
        onward: ... if it goes on to the next network.
        over: ... if it jumps.
    """
    found = []
    for here, others in (
        (answer, np.minimum(onward, over)),
        (np.minimum(answer, onward), over),
    ):
        weights = direction(scores, here <= others, np.abs(here - others))
        cuts = best_cuts(weighted(scores, weights), answer, onward, over)
        found.append((weights, cuts))
    return min(found, key=lambda one: one[1].cost)


def best_cuts(total: Floats, answer: Floats, onward: Floats, over: Floats) -> Cuts:
    """Returns the limits of a score with which samples cost least; see ``fitted_jump``.

    They lie half-way between two samples, or where no sample is on one side, at ``NEVER`` or
    its negative.
    """
    order = np.argsort(-total, kind="stable")
    falling = total[order]
    sums = [
        np.concatenate([[0.0], np.cumsum(costs[order])]) for costs in (answer, onward, over)
    ]
    apart = np.concatenate([[True], falling[1:] < falling[:-1], [True]])
    # The first so many are answered, those up to a second number go on, the rest jumps.
    first = np.where(apart, sums[0] - sums[1], np.inf)
    second = np.where(apart, sums[1] - sums[2], np.inf)
    end = int(np.argmin(np.minimum.accumulate(first) + second))
    begin = int(np.argmin(first[: end + 1]))

    def limit(place: int) -> float:
        if place == 0:
            return NEVER
        if place == len(falling):
            return -NEVER
        return float((falling[place - 1] + falling[place]) / 2)

    return Cuts(float(first[begin] + second[end] + sums[2][-1]), limit(begin), limit(end))
