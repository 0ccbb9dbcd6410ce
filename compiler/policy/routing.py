"""Which configuration a router names: from scores and answers computed once to a bias.

A router gives each configuration a score; what it costs, times a bias, is taken off, and the
largest is named. Whatever the bias, the scores stay: so all biases are tried on cached ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import RouterError
from skipc.compiler.policy.policies import Outcome
from skipc.compiler.targets.golden import run_route
from skipc.runtime.bundle.route import Test
from skipc.runtime.bundle.routed import Biased
from skipc.runtime.call.tests import goes_to, ways_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.policy.answers import Runs
    from skipc.compiler.select.samples import Samples
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.runtime.bundle.route import Stage

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Numbers = NDArray[np.intp]

BIASES = np.concatenate([[0.0], np.geomspace(1e-3, 4.0, 64)])
"""Those that are tried: a unit is a correct answer for the time of the dearest way."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class WayAnswers:
    """What configurations answer to some samples, each by itself.

    Attributes:
        given: The classes, (ways, N).
        stops: The stage of its own route at which each answers, (ways, N).
        took_ms: What that takes, (ways, N).
        labels: (N,).
    """

    given: Numbers
    stops: Numbers
    took_ms: Floats
    labels: NDArray[np.int64]

    @property
    def right(self) -> Bools:
        """Whether each answer is the label, (ways, N)."""
        found: Bools = self.given == self.labels
        return found

    def at(self, ways: Sequence[int]) -> WayAnswers:
        """Returns the answers of some configurations, in this order."""
        rows = list(ways)
        own = self.given[rows], self.stops[rows], self.took_ms[rows]
        return WayAnswers(*own, self.labels)


def way_answers(
    bundle: Bundle,
    entries: Sequence[ConfigurationEntry],
    upto_ms: Sequence[Sequence[float]],
    runs: Runs,
    parts: Sequence[Samples],
    advance: Callable[[int, int], None],
) -> list[WayAnswers]:
    """Returns what configurations answer, for each part of the data.

    One sample at a time, as the runtime does; targets are the numbers of classes.

    Args:
        bundle: The bundle.
        entries: The configurations; of one output, (N, classes).
        upto_ms: By configuration and stage, what answering there takes.
        runs: What runs each graph.
        parts: The data.
        advance: Told how many of how many samples are done.
    """
    total, (output,) = sum(map(len, parts)), bundle.manifest.outputs
    found, done = [], 0
    for samples in parts:
        stops = np.zeros((len(entries), len(samples)), np.intp)
        given, took_ms = stops.copy(), np.zeros(stops.shape)
        for row in range(len(samples)):
            case = {name: array[row : row + 1] for name, array in samples.inputs.items()}
            for way, entry in enumerate(entries):
                ran = [gave for _, gave in run_route(bundle, entry, runs, case)]
                at = _stop(entry.route, ran)
                answer = entry.route[at].answer([output], ran[at])[output.name]
                given[way, row], stops[way, row] = answer.argmax(), at
                took_ms[way, row] = upto_ms[way][at]
            done += 1
            advance(done, total)
        found.append(WayAnswers(given, stops, took_ms, samples.targets))
    return found


def _stop(route: Sequence[Stage], ran: Sequence[Mapping[str, NDArray[Any]]]) -> int:
    """Returns the stage that answers one sample, of what all of them give."""
    at, before = 0, dict[str, Any]()
    while (test := route[at].test) is not None:
        stage, tested = route[at], ran[at][test.output]
        (following,) = goes_to(test, at, tested, before.get(stage.tested))
        before[stage.tested] = tested
        if following == at:
            break
        at = following
    return at


@dataclass(frozen=True, slots=True)
class RoutedAnswers:
    """A router's scores for samples that every one of its ways was asked about.

    Attributes:
        scores: (N, ways).
        answers: What the ways answer, in the same order.
        costs: By way, as the router's test has them.
        router_ms: What the router takes by itself.
        starts: By way, the stage of the whole route that it begins with.
        stages: How many stages the whole route has.
    """

    scores: NDArray[np.float32]
    answers: WayAnswers
    costs: tuple[float, ...]
    router_ms: float
    starts: tuple[int, ...]
    stages: int

    def ways(self, bias: float) -> Numbers:
        """Returns the way that each sample is sent, (N,), as the runtime does."""
        test = Test("", stages=self.starts, costs=self.costs, bias=bias)
        return ways_of(test, self.scores)

    def took_ms(self, bias: float) -> Floats:
        """Returns what each sample takes, (N,)."""
        taken: Floats = self.answers.took_ms[self.ways(bias), np.arange(len(self.scores))]
        return taken + self.router_ms

    def outcome(self, bias: float, lost: Bools | None = None) -> Outcome:
        """Returns what a bias comes to; ``lost`` are the failures by way, (ways, N)."""
        ways, samples = self.ways(bias), np.arange(len(self.scores))
        lost = ~self.answers.right if lost is None else lost
        at = np.array(self.starts)[ways] + self.answers.stops[ways, samples]
        shares = np.bincount(at, minlength=self.stages) / len(samples)
        return Outcome(
            accuracy=float(self.answers.right[ways, samples].mean()),
            failures=int(lost[ways, samples].sum()),
            mean_ms=float(self.took_ms(bias).mean()),
            shares=tuple(shares.tolist()),
        )

    def curve(self) -> tuple[Biased, ...]:
        """Returns what the biases come to, without those that change nothing."""
        found: list[Biased] = []
        for bias in BIASES.tolist():
            outcome = self.outcome(bias)
            if not found or outcome.shares != found[-1].stops:
                found.append(Biased(bias, outcome.accuracy, outcome.shares))
        return tuple(found)


def bias_for_drop(answers: RoutedAnswers, drop: float) -> float:
    """Returns the fastest bias that loses no more accuracy, a fraction, than the best way has.

    The smallest one where none keeps as much.
    """
    best = float(answers.answers.right.mean(1).max())
    seen = {float(bias): answers.outcome(float(bias)) for bias in BIASES}
    keeping = [b for b in seen if seen[b].accuracy >= best - drop - _ROUNDING]
    if not keeping:
        return max(seen, key=lambda bias: (seen[bias].accuracy, -bias))
    return min(keeping, key=lambda bias: seen[bias].mean_ms)


def bias_for_mean(answers: RoutedAnswers, mean_ms: float) -> float:
    """Returns the most accurate bias with which a sample takes no more on average.

    Raises:
        RouterError: None does.
    """
    seen = {float(bias): answers.outcome(float(bias)) for bias in BIASES}
    meeting = [bias for bias in seen if seen[bias].mean_ms <= mean_ms]
    if not meeting:
        least = min(outcome.mean_ms for outcome in seen.values())
        raise RouterError(
            f"--mean-ms {mean_ms:g}: no bias meets it; the least is {least:.3g} ms. Ask for"
            " more, or let it name something faster."
        )
    return max(meeting, key=lambda bias: (seen[bias].accuracy, -seen[bias].mean_ms))


def static_ms(answers: WayAnswers, accuracy: float) -> float | None:
    """Returns what the fastest configuration takes that is as accurate; None if none is."""
    means = zip(answers.right.mean(1), answers.took_ms.mean(1), strict=True)
    return min(
        (float(ms) for right, ms in means if right >= accuracy - _ROUNDING), default=None
    )


def undominated(answers: WayAnswers) -> list[int]:
    """Returns what none is as fast and more accurate than, the fastest first."""
    right, took_ms = answers.right.mean(1), answers.took_ms.mean(1)
    order = sorted(range(len(right)), key=lambda way: (took_ms[way], -right[way]))
    kept: list[int] = []
    for way in order:
        if not kept or right[way] > right[kept[-1]]:
            kept.append(way)
    return kept


def most_that_can_be(answers: WayAnswers) -> Outcome:
    """Returns what somebody comes to who knows the labels: the fastest way that is right."""
    costs = answers.took_ms + np.where(answers.right, 0.0, 1e12)
    ways, samples = costs.argmin(0), np.arange(len(answers.labels))
    ways = np.where(answers.right.any(0), ways, answers.took_ms.mean(1).argmin())
    right = answers.right[ways, samples]
    took_ms = float(answers.took_ms[ways, samples].mean())
    shares = np.bincount(ways, minlength=len(costs)) / len(samples)
    return Outcome(float(right.mean()), int((~right).sum()), took_ms, tuple(shares.tolist()))
