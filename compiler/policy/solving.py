"""The way of a policy, top to bottom: fitted, chosen, certified and reported.

Each happens on a part of the data of its own.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.errors import PolicyError
from skipc.compiler.policy.answers import Answers, computed_logits, open_runs, starts_of
from skipc.compiler.policy.bound import holds, last_certified, samples_needed
from skipc.compiler.policy.deadlines import cut_limits
from skipc.compiler.policy.policies import (
    LOSSES,
    REFERENCES,
    SOLVERS,
    Gates,
    Outcome,
    Seen,
    is_faster,
    outcome_of,
    safest_first,
    to_the_end,
)
from skipc.runtime.bundle.certificate import Certificate, Cuts
from skipc.runtime.bundle.solved import ExitOutcome, PolicyOutcome, SolvedPolicy, Traded
from skipc.runtime.load.points import points_here

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.compiler.policy.policies import Loss, Policy
    from skipc.compiler.select.problem import Notes
    from skipc.compiler.select.samples import Samples
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.certificate import Kind
    from skipc.runtime.bundle.manifest import ConfigurationEntry

FULL = "to the end"
DROP = 0.003
"""What accuracy may fall by, as a fraction, where no bound is asked for."""
_TELLING = 3
"""With fewer samples in that drop it is chance."""
LEAST_PER_EXIT = 20
"""Samples of each part for each exit: with fewer, thresholds follow chance."""
_CURVE = 16
"""Points of a curve that the bundle keeps."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a policy must be shown to hold: the largest share that is lost, and how surely."""

    kind: Kind
    share: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Solved:
    """The policy that is used.

    Attributes:
        name: Its kind, of ``SOLVERS``; ``FULL`` where all samples go to the end.
        gates: Its tests.
        failures: How many samples of the calibration part are lost; None without a bound.
        outcomes: By kind, what each comes to on the report part, references included.
        curves: By kind, the same of others than the one that was wanted, the safest first.
    """

    name: str
    gates: Gates
    failures: int | None
    outcomes: Mapping[str, Outcome]
    curves: Mapping[str, Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class NewPolicy:
    """A configuration with other tests.

    Attributes:
        entry: The configuration.
        solved: How its tests were found.
        source: Where times are from, as of an ``OperatingPoint``.
        upto_ms: What answering at each exit takes.
    """

    entry: ConfigurationEntry
    solved: Solved
    source: str
    upto_ms: tuple[float, ...]


def new_policy(
    bundle: Bundle,
    entry: ConfigurationEntry,
    parts: Sequence[Samples],
    sha256s: Sequence[str],
    bound: Bound | None,
    target: str | None,
    notes: Notes,
) -> NewPolicy:
    """Returns a configuration with the tests that are best on labelled data.

    Args:
        bundle: The bundle; nothing is written into it.
        entry: The configuration, see ``configuration_of``.
        parts: The data: for fitting, selection, calibration, and the report. Targets are the
            numbers of classes.
        sha256s: Of each part.
        bound: What must be certified; None for the fastest that loses little.
        target: Whose engines answer, see ``open_runs``.
        notes: Told what is being done.

    Raises:
        PolicyError: There is too little data, or nothing holds the bound.
        BundleError: The engines cannot be used.
        BackendError: They cannot run here.
    """
    manifest = bundle.manifest
    labels = [part.targets for part in parts]
    _check_counts([len(part) for part in parts], len(entry.route))
    notes("computing what every exit answers")
    with ExitStack() as stack:
        runs, engines = open_runs(bundle, manifest.graphs_of(entry), target, stack)
        logits = computed_logits(bundle, entry, runs, parts, notes.advance)
    # One thread, as rows are run: more of them change all exits alike.
    point = points_here(bundle, engines, 1)[manifest.configurations.index(entry)]
    # What is solved says itself over what samples jump.
    asked = tuple(replace(s.test, jump=None) for s in entry.route if s.test is not None)
    starts = starts_of(entry.route)
    if bound is None and len(labels[1]) * DROP < _TELLING:
        notes.note(
            f"{len(labels[1])} samples to choose by tell no difference of {100 * DROP:g}"
            " points: what is taken may lose more. Give more data, or a bound (--max-drop)."
        )
    notes("solving policies")
    fitting, selection, calibration, report = (
        Answers.of(*each, asked, point.upto_ms, starts)
        for each in zip(logits, labels, strict=True)
    )
    solved = solve(fitting, selection, calibration, report, bound)
    certificate = None
    if bound is not None and solved.failures is not None:
        certificate = Certificate(
            *(bound.kind, bound.share, bound.confidence, len(labels[2]), solved.failures),
            data_sha256=sha256s[2],
            policy=solved.name,
            target="" if engines is None else engines.target,
            cuts=Cuts(
                len(labels[3]),
                sha256s[3],
                cut_limits(solved.gates, report, LOSSES[bound.kind], bound.confidence),
            ),
        )
    tests = (*solved.gates.tests, None)
    right = 1 - report.wrong.mean(1)
    reported = solved.outcomes[solved.name]
    changed = replace(
        entry,
        route=tuple(replace(s, test=test) for s, test in zip(entry.route, tests, strict=True)),
        stops=reported.shares,
        metrics={**entry.metrics, "accuracy": reported.accuracy},
        certificate=certificate,
        solved=SolvedPolicy(
            policy=solved.name,
            source=point.source,
            samples=len(labels[3]),
            exits=tuple(map(ExitOutcome, right.tolist(), point.upto_ms)),
            outcomes=tuple(_written(name, solved) for name in solved.outcomes),
        ),
    )
    return NewPolicy(changed, solved, point.source, point.upto_ms)


def _written(name: str, solved: Solved) -> PolicyOutcome:
    found = solved.outcomes[name]
    curve = (Traded(each.accuracy, each.mean_ms) for each in solved.curves.get(name, ()))
    return PolicyOutcome(name, found.accuracy, found.mean_ms, found.shares, tuple(curve))


def _check_counts(counts: Sequence[int], exits: int) -> None:
    if min(counts) < LEAST_PER_EXIT * exits:
        raise PolicyError(
            f"{exits} exits, but a part of the data has {min(counts)} samples: each part needs"
            f" {LEAST_PER_EXIT} for each exit, {LEAST_PER_EXIT * exits}. Give more data."
        )


def solve(
    fitting: Answers,
    selection: Answers,
    calibration: Answers,
    report: Answers,
    bound: Bound | None,
) -> Solved:
    """Returns the policy that takes least time at the wanted point.

    Without a bound that is the fastest whose accuracy on the selection part is at most 0.3
    points below the last exit's. With one, the kind of policy is chosen by what is expected to
    be certified, and the one that is used is the last of its sequence that is. What is fitted
    closer than one threshold must be faster by more than chance explains.

    Raises:
        PolicyError: Nothing holds the bound; it says how many samples might.
    """
    loss = LOSSES["max-error" if bound is None else bound.kind]
    end = to_the_end(fitting)
    full = outcome_of(end, selection, loss)

    def wanted(outcome: Outcome) -> bool:
        if bound is None:
            return full.accuracy - outcome.accuracy <= DROP
        samples = len(calibration.labels)
        expected = round(outcome.failures / len(selection.labels) * samples)
        return holds(expected, samples, bound.share, bound.confidence)

    sequences, chosen = {}, {}
    for name, solver in {**SOLVERS, **REFERENCES}.items():
        policies = solver(fitting, loss)
        if not policies:
            continue
        sequence = safest_first([end, *policies], selection, loss)
        sequences[name] = sequence
        chosen[name] = next(
            (each for each in reversed(sequence) if wanted(each.outcome)), sequence[0]
        )
    simple, *others = (kind for kind in SOLVERS if kind in chosen)
    name = min(others, key=lambda each: chosen[each].outcome.mean_ms)
    followed = {kind: chosen[kind].policy.followed(selection) for kind in (name, simple)}
    if not is_faster(followed[name], followed[simple]):
        name = simple
    failures = None
    if bound is not None:
        safest = [each.policy for each in sequences[name]]
        policy, failures = _certified(safest, calibration, loss, bound)
        chosen[name] = Seen(policy, outcome_of(policy, selection, loss))
    gates = chosen[name].policy
    assert isinstance(gates, Gates)
    outcomes = {FULL: outcome_of(end, report, loss)}
    outcomes |= {k: outcome_of(each.policy, report, loss) for k, each in chosen.items()}
    curves = {
        kind: [outcome_of(each.policy, report, loss) for each in _spread(sequence)]
        for kind, sequence in sequences.items()
    }
    return Solved(FULL if gates == end else name, gates, failures, outcomes, curves)


def _spread(sequence: Sequence[Seen]) -> list[Seen]:
    """Returns so many of a sequence that a curve can be drawn, its ends included."""
    places = np.linspace(0, len(sequence) - 1, min(len(sequence), _CURVE)).round()
    return [sequence[int(place)] for place in places]


def _certified(
    policies: list[Policy], calibration: Answers, loss: Loss, bound: Bound
) -> tuple[Policy, int]:
    """Returns the last policy of a sequence that is certified, and what it loses."""
    samples = len(calibration.labels)
    lost = [outcome_of(policy, calibration, loss).failures for policy in policies]
    last = last_certified(lost, samples, bound.share, bound.confidence)
    if last is not None:
        return policies[last], lost[last]
    needed = samples_needed(lost[0] / samples, bound.share, bound.confidence)
    told = (
        f"No number of samples would do: allow more than {lost[0] / samples:.3g}."
        if needed is None
        else f"With that rate {needed} samples would do."
    )
    asked = f"{100 * bound.share:g}" if bound.kind == "max-drop" else f"{bound.share:g}"
    raise PolicyError(
        f"nothing holds --{bound.kind} {asked} with --sure {bound.confidence:g}: the safest"
        f" policy loses {lost[0]} of the calibration part's {samples} samples. {told} Nothing"
        " was changed."
    )
