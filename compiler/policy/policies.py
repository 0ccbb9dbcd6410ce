"""Policies: by one threshold, by a budget, by learnt gates; two more are references only.

Gates of a chain answer or go on; where it is of three networks and more, they may jump.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from skipc.compiler.policy.answers import CLASS_SCORES, Answers
from skipc.compiler.policy.jumps import Cuts, backward_jumping, fitted_jump
from skipc.compiler.policy.recursion import backward, fitted_gate
from skipc.runtime.bundle.route import NEVER, Jump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from skipc.runtime.bundle.certificate import Kind
    from skipc.runtime.bundle.route import Test

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Loss = Callable[[Answers], Bools]
    Solver = Callable[[Answers, Loss], list["Policy"]]

_SURE = CLASS_SCORES.index("max-softmax")
_THRESHOLDS = 200
_BUDGETS = 60
_PRICES = np.geomspace(0.5, 2000, 16)
"""Of a loss, in times of what the last exit takes longer than the first."""
_KEPT = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Shares of what a learnt gate answers: without loss on few samples is not without loss."""


LOSSES: Mapping[Kind, Loss] = {
    "max-error": lambda answers: answers.wrong,
    "max-drop": lambda answers: answers.wrong & ~answers.wrong[-1],
    "max-disagreement": lambda answers: answers.given != answers.given[-1],
}
"""Which answers are lost, (exits, N), by what a bound is of."""


class Followed(NamedTuple):
    """Where a policy answers each sample, (N,), and what that takes, (N,)."""

    stops: NDArray[np.intp]
    took_ms: Floats


@dataclass(frozen=True, slots=True)
class Gates:
    """A policy that the runtime can follow: a test for each exit but the last."""

    tests: tuple[Test, ...]

    def followed(self, answers: Answers) -> Followed:
        """Returns where each sample is answered."""
        at = np.zeros(len(answers.labels), np.intp)
        saved_ms = np.zeros(len(at))
        for number, test in enumerate(self.tests):
            going = np.where(at == number, answers.going(number, test), at)
            if test.jump is not None:
                over = (at == number) & (going == test.jump.stage)
                left_out = answers.upto_ms[[number, test.jump.stage - 1]]
                saved_ms[over] += left_out[1] - left_out[0]
            at = going
        return Followed(at, answers.upto_ms[at] - saved_ms)


@dataclass(frozen=True, slots=True)
class Oracle:
    """Knows the label, and what every exit will answer: no policy can be better."""

    price_ms: float
    loss: Loss

    def followed(self, answers: Answers) -> Followed:
        """Returns where each sample is answered."""
        costs = answers.least_ms[:, None] + self.price_ms * self.loss(answers)
        stops: NDArray[np.intp] = costs.argmin(0)
        return Followed(stops, answers.least_ms[stops])


Policy: TypeAlias = Gates | Oracle


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy comes to on some samples.

    Attributes:
        accuracy: A fraction.
        failures: How many samples are lost, by the loss that was asked for.
        mean_ms: What a sample takes.
        shares: By exit, the share of samples that are answered there.
    """

    accuracy: float
    failures: int
    mean_ms: float
    shares: tuple[float, ...]


def outcome_of(policy: Policy, answers: Answers, loss: Loss) -> Outcome:
    """Returns what a policy comes to."""
    stops, took_ms = policy.followed(answers)
    samples = np.arange(len(stops))
    shares = np.bincount(stops, minlength=len(answers.upto_ms)) / len(stops)
    return Outcome(
        accuracy=1 - float(answers.wrong[stops, samples].mean()),
        failures=int(loss(answers)[stops, samples].sum()),
        mean_ms=float(took_ms.mean()),
        shares=tuple(float(share) for share in shares),
    )


class Seen(NamedTuple):
    """A policy, and what it came to."""

    policy: Policy
    outcome: Outcome


def safest_first(policies: list[Policy], answers: Answers, loss: Loss) -> list[Seen]:
    """Returns the policies each of which is faster than all that lose less, or as much."""
    seen = [Seen(policy, outcome_of(policy, answers, loss)) for policy in policies]
    seen.sort(key=lambda each: (each.outcome.failures, -each.outcome.mean_ms))
    kept: list[Seen] = []
    for each in seen:
        if not kept or each.outcome.mean_ms < kept[-1].outcome.mean_ms:
            kept.append(each)
    return kept


def is_faster(one: Followed, simple: Followed) -> bool:
    """Tells whether a policy takes less than a simpler one, by more than chance explains.

    Both are asked about the same samples: what is saved on average must be more than two
    standard errors of it. The best of many that follow noise saves about one.
    """
    saved_ms = simple.took_ms - one.took_ms
    error_ms = float(saved_ms.std()) / np.sqrt(len(saved_ms))
    return bool(saved_ms.mean() > 2 * error_ms)


def costs_of(answers: Answers, price_ms: float, loss: Loss) -> Floats:
    """Returns what answering at each exit costs, a loss at its price included, (exits, N)."""
    found: Floats = answers.upto_ms[:, None] + price_ms * loss(answers)
    return found


def confident(answers: Answers, thresholds: Iterable[float]) -> Gates:
    """Returns thresholds of the largest probability, one for each exit but the last."""
    scores = {CLASS_SCORES[_SURE]: 1.0}
    pairs = zip(answers.tests, thresholds, strict=True)
    return Gates(tuple(replace(t, scores=scores, threshold=float(at)) for t, at in pairs))


def to_the_end(answers: Answers) -> Gates:
    """Returns the policy that answers at the last exit alone."""
    return confident(answers, [NEVER] * len(answers.tests))


def uniform(answers: Answers, loss: Loss) -> list[Policy]:
    """Returns policies of one threshold for all exits, as dense as the samples are."""
    del loss
    seen = answers.scores[:, :, _SURE]
    thresholds = np.unique(np.quantile(seen, np.linspace(0, 1, _THRESHOLDS)))
    return [confident(answers, [threshold] * len(seen)) for threshold in thresholds]


def budgeted(answers: Answers, loss: Loss) -> list[Policy]:
    """Returns policies that spend budgets from the first exit's time to the last one's."""
    del loss
    budgets_ms = np.linspace(answers.upto_ms[0], answers.upto_ms[-1], _BUDGETS)
    return [for_budget(answers, float(budget_ms)) for budget_ms in budgets_ms]


def for_budget(answers: Answers, budget_ms: float) -> Gates:
    """Returns thresholds with which samples like these take ``budget_ms`` on average.

    MSDNet's (Huang et al., 2018): the share of samples that leave at exit k grows, or falls,
    as r^k; at each exit the most confident of those that are left leave. Here r is bisected,
    times are measured, and an exit at which too few are left lets all of them leave.
    """

    def shares(log_r: float) -> Floats:
        powers = log_r * np.arange(len(answers.upto_ms))
        found: Floats = np.exp(powers - powers.max())
        found /= found.sum()
        return found

    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(shares(middle) @ answers.upto_ms) > budget_ms:
            high = middle
        else:
            low = middle
    left = np.ones(len(answers.labels), bool)
    thresholds = []
    for share, seen in zip(shares(low), answers.scores[:, :, _SURE], strict=False):
        count = min(round(float(share) * len(left)), int(left.sum()))
        thresholds.append(float(np.sort(seen[left])[-count]) if count else NEVER)
        left &= seen < thresholds[-1]
    return confident(answers, thresholds)


def learnt(answers: Answers, loss: Loss, myopic: bool = False) -> list[Policy]:
    """Returns policies of learnt gates, for a range of prices of a loss; see ``recursion``.

    Each comes with stricter ones, which answer the surest of its samples.
    """
    found: list[Policy] = []
    for price_ms in _prices(answers):
        gates = _learnt(answers, costs_of(answers, price_ms, loss), myopic)
        found += [_stricter(gates, answers, share) for share in _KEPT]
    return found


def jumping(answers: Answers, loss: Loss) -> list[Policy]:
    """Returns policies as ``learnt``, of gates that jump over networks; see ``jumps``.

    None where there is nothing to jump over.
    """
    found: list[Policy] = []
    for price_ms in _prices(answers) if any(answers.targets) else ():
        gates = _jumping(answers, price_ms * loss(answers))
        if any(test.jump is not None for test in gates.tests):
            found += [_stricter(gates, answers, share) for share in _KEPT]
    return found


def oracles(answers: Answers, loss: Loss) -> list[Policy]:
    """Returns oracles, for the prices of ``learnt``."""
    return [Oracle(price_ms, loss) for price_ms in _prices(answers)]


SOLVERS: Mapping[str, Solver] = {
    "uniform threshold": uniform,
    "budget solver": budgeted,
    "learnt gates": learnt,
    "gates that jump": jumping,
}
"""Each makes policies of the answers to some samples; the first is what others must beat."""

REFERENCES: Mapping[str, Solver] = {
    "myopic gates": partial(learnt, myopic=True),
    "oracle": oracles,
}


def _prices(answers: Answers) -> list[float]:
    return [float(p) for p in _PRICES * (answers.upto_ms[-1] - answers.upto_ms[0])]


def _learnt(answers: Answers, costs: Floats, myopic: bool) -> Gates:
    tests = list(answers.tests)

    def gate(number: int, label: Bools, weight: Floats) -> Bools:
        weights, threshold = fitted_gate(answers.scores[number], label, weight)
        tests[number] = _weighing(tests[number], weights, threshold, None)
        return answers.total(number, tests[number]) >= threshold

    backward(costs, gate, myopic)
    return Gates(tuple(tests))


def _jumping(answers: Answers, prices: NDArray[Any]) -> Gates:
    tests, targets = list(answers.tests), answers.targets

    def gate(number: int, ways: Mapping[int, Floats]) -> NDArray[np.intp]:
        scores, here, onward = answers.scores[number], ways[number], ways[number + 1]
        if not targets[number]:
            found = fitted_gate(scores, here <= onward, np.abs(here - onward))
            tests[number] = _weighing(tests[number], *found, None)
            return answers.going(number, tests[number])

        def fitted(target: int) -> tuple[Floats, Cuts]:
            return fitted_jump(scores, here, onward, ways[target])

        all_fitted = {target: fitted(target) for target in targets[number]}
        target, (weights, cuts) = min(all_fitted.items(), key=lambda one: one[1][1].cost)
        jump = Jump(cuts.below, target) if cuts.below > -NEVER else None
        tests[number] = _weighing(tests[number], weights, cuts.threshold, jump)
        return answers.going(number, tests[number])

    stage_ms = np.diff(answers.upto_ms, prepend=0.0)
    backward_jumping(prices, stage_ms, targets, gate)
    return Gates(tuple(tests))


def _weighing(test: Test, weights: Floats, threshold: float, jump: Jump | None) -> Test:
    scores = {name: float(w) for name, w in zip(CLASS_SCORES, weights, strict=True) if w}
    return replace(test, scores=scores, threshold=threshold, jump=jump)


def _stricter(gates: Gates, answers: Answers, share: float) -> Gates:
    """Returns gates each of which answers a share of the samples that it does now."""
    if share == 1:
        return gates
    tests = []
    for number, test in enumerate(gates.tests):
        total = answers.total(number, test)
        passing = total[total >= test.threshold]
        threshold = float(np.quantile(passing, 1 - share)) if len(passing) else NEVER
        tests.append(replace(test, threshold=threshold))
    return Gates(tuple(tests))
