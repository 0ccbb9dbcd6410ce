"""What a policy loses where a deadline cuts it: a sample that would go on is answered.

A deadline does not look at the sample. So a call has an edge of time, drawn apart from it: on
each way through the exits a place beyond which nothing is begun. Where every sample takes the
same way, that is an exit, and those that had not stopped before are answered there. Where
tests jump, ways are of several lengths, and a call that was cut at one exit tells little of
where it would have been cut on another way. So a sample on another way counts as lost if it is
at any exit at which it may have been cut then: no edge loses more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.policy.bound import upper_limit
from skipc.runtime.bundle.certificate import CutLimit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.compiler.policy.answers import Answers
    from skipc.compiler.policy.policies import Gates, Loss
    from skipc.runtime.bundle.route import Test

    Bools = NDArray[np.bool_]


def cut_limits(
    gates: Gates, answers: Answers, loss: Loss, confidence: float
) -> tuple[CutLimit, ...]:
    """Returns what is lost at most where a deadline cuts a policy at each exit but the last.

    All limits hold together (Bonferroni). The policy must not have been chosen by these
    answers, nor certified by them (the fixed sequence stops where luck ends).
    """
    lost = loss(answers)
    samples, each = len(answers.labels), 1 - (1 - confidence) / len(gates.tests)
    found = []
    for number in range(len(gates.tests)):
        failures = int(lost_if_cut(gates, answers, lost, number).sum())
        found.append(CutLimit(failures, upper_limit(failures, samples, each)))
    return tuple(found)


def lost_if_cut(gates: Gates, answers: Answers, lost: Bools, exit_: int) -> Bools:
    """Returns which samples may be lost when calls are cut at an exit, (N,).

    Args:
        gates: The policy.
        answers: What the exits answer.
        lost: Which answers are lost, (exits, N).
        exit_: Where calls are cut.
    """
    found = np.zeros(len(answers.labels), bool)
    at = np.zeros(len(found), np.intp)
    # Whether a way to where calls are cut has left this sample's before.
    elsewhere = np.zeros(len(found), bool)
    leads = _leading_to(exit_, gates.tests)
    for number, test in enumerate(gates.tests):
        here = at == number
        going = answers.going(number, test)
        if number == exit_ and test.jump is not None:
            elsewhere |= here  # cut may be the other one of two ways on
        for way in _ways(number, test):
            if leads[way]:
                elsewhere |= here & (going != way)
        stays = (going == number) | (number == exit_)
        found |= here & lost[number] & (elsewhere | stays)
        # Past the cut only those go on that another way may have brought that far.
        at = np.where(here & (~stays | (elsewhere & (going != number))), going, at)
    found |= (at == len(gates.tests)) & lost[-1]
    return found


def _ways(number: int, test: Test) -> tuple[int, ...]:
    """Returns where samples may go on to from an exit."""
    return (number + 1,) if test.jump is None else (number + 1, test.jump.stage)


def _leading_to(exit_: int, tests: tuple[Test, ...]) -> list[bool]:
    """Returns by exit whether samples there may come to another one, which counts, too."""
    found = [number == exit_ for number in range(len(tests) + 1)]
    for number in reversed(range(exit_)):
        found[number] = any(found[way] for way in _ways(number, tests[number]))
    return found
