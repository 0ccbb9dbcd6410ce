"""Whether numbers can be trusted: what makes a report's doubtful, what changed between two."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.runtime.errors import ChoiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.tools.trtbench.latency import Latency, RatioInterval
    from skipc.tools.trtbench.report import PhaseSummary, Report

_LEAST_RUNS = 10
_MOST_VARIATION = 0.025
_MOST_ENQUEUEING = 0.8  # of the computation, by medians: trtexec's number
_UNLIKE = 0.1
"""Logarithm of a change of the mean over the median that is worth telling."""


def doubts(report: Report) -> tuple[str, ...]:
    """Returns ``trtexec``'s warnings, one of each kind, with what each is about."""
    timed, streams, way = report.timed, report.regime.streams, report.regime.way
    phases = {e.name: e.phases for e in report.configurations if e.phases is not None}
    variations = {name: one.coefficient_of_variation for name, one in timed.items()}
    ungraphed = [name for name, one in phases.items() if not one.graph]
    pairs = {n: (one.enqueue.median_ms, one.compute.median_ms) for n, one in phases.items()}
    told = (
        (
            f"unstable latency, with a coefficient of variation above {_MOST_VARIATION:.1%}",
            [f"{name} {v:.1%}" for name, v in variations.items() if v > _MOST_VARIATION],
            "Fix the clock's frequency, stop other programs, or measure longer (--duration).",
        ),
        (
            "too few runs to rely on",
            [f"{name} {one.runs}" for name, one in timed.items() if one.runs < _LEAST_RUNS],
            f"Measure {_LEAST_RUNS} or more (--iterations, --duration).",
        ),
        (
            "phases measured without a CUDA graph",
            ungraphed if way is not None and way.graph else [],
            "None could be captured, or the inputs are not of the typical sizes.",
        ),
        (
            f"enqueueing takes more than {_MOST_ENQUEUEING} of the computation's median",
            [name for name, (own, all_) in pairs.items() if own > _MOST_ENQUEUEING * all_],
            "The host may set the pace, not the GPU. Use CUDA graphs, or a larger batch.",
        ),
        (
            "copying in or out takes as long as computing, or longer",
            [name for name, one in phases.items() if _moves_long(one)],
            "--noDataTransfers shows what calls take whose arrays stay on the GPU.",
        ),
    )
    sharing = (
        f"{streams} calls run at the same time and share the cores: what one takes holds its"
        " waiting for the others. Compare throughput; for latency measure again with"
        " --infStreams=1."
    )
    found = [f"{what}: {', '.join(names)}. {advice}" for what, names, advice in told if names]
    return (*((sharing,) if streams > 1 else ()), *found)


def _moves_long(one: PhaseSummary) -> bool:
    moved = [phase.median_ms for phase in (one.h2d, one.d2h) if phase is not None]
    return any(moved_ms >= one.compute.median_ms for moved_ms in moved)


@dataclass(frozen=True, slots=True)
class Change:
    """What changed of one configuration: ``interval`` is new over old.

    ``margin`` is the relative change to be expected between two measurements of one thing.
    """

    old: Latency
    new: Latency
    interval: RatioInterval
    margin: float

    @property
    def unlike_its_median(self) -> bool:
        """Whether the mean changed by far more than the median: outliers came or went."""
        means = math.log(self.new.mean_ms / self.old.mean_ms)
        medians = math.log(self.new.median_ms / self.old.median_ms)
        return abs(means - medians) > _UNLIKE + self.margin

    @property
    def verdict(self) -> str:
        """``slower``, ``faster``, or why neither is said."""
        beyond, alone = self.interval.verdict(self.margin), self.interval.verdict()
        told = beyond in (alone, "slower", "faster")
        return beyond if told else f"within {self.margin:.1%}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed between two reports, of each configuration that both have.

    ``differences`` says in what the two differ otherwise; it is empty for like with like.
    """

    differences: tuple[str, ...]
    changes: Mapping[str, Change]

    @property
    def slower(self) -> bool:
        """Whether a configuration became significantly slower, beyond the margin."""
        return any(change.verdict == "slower" for change in self.changes.values())

    @property
    def common_factor(self) -> float | None:
        """The factor by which all changed alike, as they do when the machine changed.

        None where there is only one configuration, not all changed, or not alike.
        """
        changes = self.changes.values()
        ratios = [each.interval.ratio for each in changes]
        changed = all(each.verdict in ("slower", "faster") for each in changes)
        if len(ratios) < 2 or not changed:
            return None
        alike = max(ratios) / min(ratios) < 1 + max(each.margin for each in changes)
        return statistics.geometric_mean(ratios) if alike else None


def compare(old: Report, new: Report, margin: float) -> Comparison:
    """Returns what changed from ``old`` to ``new``.

    Two measurements of one thing may differ by ``margin``, relatively: each start of the
    program lays out its memory anew, and no interval within a run shows that (T. Kalibera and
    R. Jones, Rigorous Benchmarking in Reasonable Time, 2013).

    Raises:
        ChoiceError: They have no configuration in common, or one has no latencies.
    """
    before, after = ([e.name for e in one.configurations] for one in (old, new))
    if not {*before} & {*after}:
        raise ChoiceError(
            f"the files have no configuration in common: the old one has {before}, the new one"
            f" {after}. Compare two measurements of one family."
        )
    for which, report in (("old", old), ("new", new)):
        if not report.timed:
            raise ChoiceError(
                f"the {which} file has no latencies: it was made with --timeDeserialize."
                " Measure again without it."
            )
    was, now = _facts(old), _facts(new)
    differences = [
        f"{what}: {was.get(what, 'none')}, then {now.get(what, 'none')}"
        for what in (was | now)
        if was.get(what) != now.get(what)
    ]
    differences += [f"{name} is in the old file only." for name in before if name not in after]
    differences += [f"{name} is in the new file only." for name in after if name not in before]
    pairs = {name: (old.timed[name], new.timed[name]) for name in before if name in after}
    return Comparison(
        tuple(differences),
        {n: Change(one, other, other.since(one), margin) for n, (one, other) in pairs.items()},
    )


def _facts(report: Report) -> dict[str, str]:
    """Returns what makes two measurements comparable where it is alike."""
    regime = report.regime
    return {
        "bundle": regime.manifest_sha256[:12],
        "backend": regime.backend,
        "target": regime.target,
        "threads": str(regime.threads),
        "calls at a time": str(regime.streams),
        "device": regime.device,
        "power mode": regime.power_mode or "not told",
        "a call": regime.call_text,
        "warm-up in ms": f"{regime.stop.warm_up_ms:g}",
        # Caches remember who else took turns.
        "baselines in the loop": "plain" if report.plain else "none",
        **{f"version of {name}": text for name, text in regime.versions.items()},
        **{f"input {name}": text for name, text in regime.inputs.items()},
    }
