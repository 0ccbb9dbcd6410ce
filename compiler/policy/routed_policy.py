"""The bias of a router, chosen anew and certified on data that nothing else has seen."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skipc.compiler.errors import PolicyError
from skipc.compiler.policy.answers import open_runs
from skipc.compiler.policy.bound import last_certified
from skipc.compiler.policy.policies import Gates, Outcome
from skipc.compiler.policy.routing import BIASES, RoutedAnswers, bias_for_drop, way_answers
from skipc.compiler.policy.solving import DROP, FULL, NewPolicy, Solved
from skipc.runtime.bundle.certificate import Certificate
from skipc.runtime.load.points import points_here

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skipc.compiler.policy.solving import Bound
    from skipc.compiler.select.problem import Notes
    from skipc.compiler.select.samples import Samples
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.certificate import Kind
    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.runtime.governor import OperatingPoint

    Bools = NDArray[np.bool_]

_NAME = "router"


class _Asked(NamedTuple):
    """What a router and its ways say to each part, by whose engines, at what times."""

    parts: tuple[RoutedAnswers, ...]
    target: str
    point: OperatingPoint


def new_bias(
    bundle: Bundle,
    entry: ConfigurationEntry,
    parts: Sequence[Samples],
    sha256s: Sequence[str],
    bound: Bound | None,
    target: str | None,
    notes: Notes,
) -> NewPolicy:
    """Returns a configuration with the bias of its router that is best on labelled data.

    Without a bound that is the fastest that loses at most 0.3 points against the best
    configuration that it names. With one it is the last that is certified, the safest first;
    what is lost is told by the dearest configuration. All else is as of ``new_policy``.

    Raises:
        PolicyError: Nothing holds the bound.
    """
    asked = _asked(bundle, entry, parts[1:], target, notes)
    selection, calibration, report = asked.parts
    failures, certificate = None, None
    if bound is None:
        bias = bias_for_drop(selection, DROP)
    else:
        bias, failures = _certified(selection, calibration, bound)
        certificate = Certificate(
            *(bound.kind, bound.share, bound.confidence, len(parts[2]), failures),
            data_sha256=sha256s[2],
            policy=_NAME,
            target=asked.target,
        )
    lost = _lost(report, "max-error" if bound is None else bound.kind)
    outcome = report.outcome(bias, lost)
    first, *others = entry.route
    assert first.test is not None
    test = replace(first.test, bias=bias)
    changed = replace(
        entry,
        route=(replace(first, test=test), *others),
        stops=outcome.shares,
        metrics={**entry.metrics, "accuracy": outcome.accuracy},
        certificate=certificate,
    )
    outcomes = {FULL: _dearest(report, lost), _NAME: outcome}
    solved = Solved(_NAME, Gates((test,)), failures, outcomes, {})
    return NewPolicy(changed, solved, asked.point.source, asked.point.upto_ms)


def _asked(
    bundle: Bundle,
    entry: ConfigurationEntry,
    parts: Sequence[Samples],
    target: str | None,
    notes: Notes,
) -> _Asked:
    manifest, router = bundle.manifest, entry.route[0]
    assert entry.routed is not None
    assert router.test is not None
    ways = [manifest.configuration(name) for name in entry.routed.ways]
    notes("computing what every configuration answers")
    with ExitStack() as stack:
        runs, engines = open_runs(bundle, manifest.graphs_of(entry), target, stack)
        points = {each.configuration: each for each in points_here(bundle, engines, 1)}
        own = [points[way.name] for way in ways]
        upto_ms = [point.upto_ms or (point.p50_ms,) for point in own]
        answers = way_answers(bundle, ways, upto_ms, runs, parts, notes.advance)
        scores = [
            np.concatenate([
                runs[router.graph].run({n: a[r : r + 1] for n, a in part.inputs.items()})[
                    router.test.output
                ]
                for r in range(len(part))
            ])
            for part in parts
        ]  # fmt: skip
    point = points[entry.name]
    found = tuple(
        RoutedAnswers(
            score, answer, router.test.costs, point.upto_ms[0], router.test.stages,
            len(entry.route),
        )
        for score, answer in zip(scores, answers, strict=True)
    )  # fmt: skip
    return _Asked(found, "" if engines is None else engines.target, point)


def _lost(answers: RoutedAnswers, kind: Kind) -> Bools:
    """Returns which answers are lost, (ways, N), by what a bound is of."""
    found = answers.answers
    if kind == "max-disagreement":
        apart: Bools = found.given != found.given[-1]
        return apart
    return ~found.right if kind == "max-error" else ~found.right & found.right[-1]


def _dearest(answers: RoutedAnswers, lost: Bools) -> Outcome:
    """Returns what always naming the dearest configuration comes to."""
    found = answers.answers
    shares = np.bincount(answers.starts[-1] + found.stops[-1], minlength=answers.stages)
    return Outcome(
        accuracy=float(found.right[-1].mean()),
        failures=int(lost[-1].sum()),
        mean_ms=float(found.took_ms[-1].mean()),
        shares=tuple((shares / shares.sum()).tolist()),
    )


def _certified(
    selection: RoutedAnswers, calibration: RoutedAnswers, bound: Bound
) -> tuple[float, int]:
    """Returns the last bias that is certified, the safest first, and what it loses.

    The order is that of the selection part: each is faster than all that lose less there.
    """
    lost = _lost(selection, bound.kind)
    seen = [(bias, selection.outcome(bias, lost)) for bias in map(float, BIASES)]
    seen.sort(key=lambda each: (each[1].failures, -each[1].mean_ms))
    order = [seen[0]]
    for each in seen[1:]:
        if each[1].mean_ms < order[-1][1].mean_ms:
            order.append(each)
    lost, samples = _lost(calibration, bound.kind), len(calibration.scores)
    failures = [calibration.outcome(bias, lost).failures for bias, _ in order]
    last = last_certified(failures, samples, bound.share, bound.confidence)
    if last is None:
        raise PolicyError(
            f"nothing holds {bound.kind} {bound.share:g}, sure to {bound.confidence:g}: the"
            f" safest bias loses {failures[0]} of the calibration part's {samples} samples."
            " Allow more, give more data, or train the router on more. Nothing was changed."
        )
    return order[last][0], failures[last]
