"""Whether numbers can be trusted: what makes a report's doubtful, what changed between two."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.runtime.errors import ChoiceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from skipc.tools.trtbench.latency import Latency, RatioInterval
    from skipc.tools.trtbench.probes import PhaseSummary
    from skipc.tools.trtbench.report import Regime, Report

_LEAST_RUNS = 10
_MOST_VARIATION = 0.025
_MOST_ENQUEUEING = 0.8  # of the computation, by medians: trtexec's number
_UNLIKE = 0.1
"""Logarithm of a change of the mean over the median that is worth telling."""


def doubts(report: Report) -> tuple[str, ...]:
    """Returns ``trtexec``'s warnings, one of each kind, with what each is about."""
    return tuple(_doubts(report))


def _doubts(report: Report) -> Iterator[str]:
    timed, streams = report.timed, report.regime.streams
    phases = {e.name: e.phases for e in report.configurations if e.phases is not None}
    variations = {name: one.coefficient_of_variation for name, one in timed.items()}
    unstable = [f"{n} {v:.1%}" for n, v in variations.items() if v > _MOST_VARIATION]
    few = [f"{name} {one.runs}" for name, one in timed.items() if one.runs < _LEAST_RUNS]
    graph_asked = report.regime.way is not None and report.regime.way.graph
    ungraphed = [name for name, one in phases.items() if graph_asked and not one.graph]
    enqueueing = [
        name
        for name, one in phases.items()
        if one.enqueue.median_ms > _MOST_ENQUEUEING * one.compute.median_ms
    ]
    moving = [name for name, one in phases.items() if _moved_ms(one) >= one.compute.median_ms]
    if streams > 1:
        yield (
            f"{streams} calls run at the same time and share the cores: what one takes holds"
            " its waiting for the others. Compare throughput; for latency measure again with"
            " --infStreams=1."
        )
    if unstable:
        yield (
            f"unstable latency, with a coefficient of variation above {_MOST_VARIATION:.1%}:"
            f" {', '.join(unstable)}. Fix the clock's frequency, stop other programs, or"
            " measure longer (--duration)."
        )
    if few:
        yield (
            f"too few runs to rely on: {', '.join(few)}. Measure {_LEAST_RUNS} or more"
            " (--iterations, --duration)."
        )
    if ungraphed:
        yield (
            f"phases measured without a CUDA graph: {', '.join(ungraphed)}. None could be"
            " captured, or the inputs are not of the typical batch."
        )
    if enqueueing:
        yield (
            f"enqueueing takes more than {_MOST_ENQUEUEING} of the computation's median:"
            f" {', '.join(enqueueing)}. The host may set the pace, not the GPU. Use CUDA"
            " graphs, or a larger batch."
        )
    if moving:
        yield (
            f"copying in or out takes as long as computing, or longer: {', '.join(moving)}."
            " --noDataTransfers shows what calls take whose arrays stay on the GPU."
        )


def _moved_ms(phases: PhaseSummary) -> float:
    moved_ms = [one.median_ms for one in (phases.h2d, phases.d2h) if one is not None]
    return max(moved_ms, default=-1.0)


@dataclass(frozen=True, slots=True)
class Change:
    """What changed of one configuration: ``interval`` is new over old.

    ``margin`` is the relative change to be expected between two measurements of one thing.
    """

    configuration: str
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
    def slower(self) -> bool:
        """Whether the whole interval lies above 1 and the margin."""
        return self.interval.low is not None and self.interval.low > 1 + self.margin

    @property
    def faster(self) -> bool:
        """Whether the whole interval lies below 1 and the margin."""
        return self.interval.high is not None and self.interval.high < 1 / (1 + self.margin)

    @property
    def verdict(self) -> str:
        """``slower``, ``faster``, or why neither is said."""
        if self.slower or self.faster:
            return "slower" if self.slower else "faster"
        if self.interval.slower or self.interval.faster:
            return f"within {self.margin:.1%}"
        return self.interval.verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed between two reports, of each configuration that both have.

    ``differences`` says in what the regimes differ; it is empty for like with like.
    """

    differences: tuple[str, ...]
    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]

    @property
    def slower(self) -> bool:
        """Whether a configuration became significantly slower, beyond the margin."""
        return any(change.slower for change in self.changes)

    @property
    def common_factor(self) -> float | None:
        """The factor by which all changed alike, as they do when the machine changed.

        None where there is only one configuration, not all changed, or not alike.
        """
        ratios = [change.interval.ratio for change in self.changes]
        changed = [change.slower or change.faster for change in self.changes]
        if len(ratios) < 2 or not all(changed):
            return None
        alike = max(ratios) / min(ratios) < 1 + max(change.margin for change in self.changes)
        return statistics.geometric_mean(ratios) if alike else None


def compare(old: Report, new: Report, margin: float) -> Comparison:
    """Returns what changed from ``old`` to ``new``.

    Args:
        old: The earlier report.
        new: The later one.
        margin: What two measurements of one thing may differ by, relatively: each start of
            the program lays out its memory anew, and no interval within a run shows that
            (T. Kalibera and R. Jones, Rigorous Benchmarking in Reasonable Time, 2013).

    Raises:
        ChoiceError: They have no configuration in common, or one has no latencies.
    """
    before, after = ([e.name for e in one.configurations] for one in (old, new))
    common = [name for name in before if name in after]
    if not common:
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
    changes = []
    for name in common:
        then, now = old.timed[name], new.timed[name]
        changes.append(Change(name, then, now, now.since(then), margin))
    beside = ["plain" if one.plain else "none" for one in (old, new)]
    neighbours = f"baselines in the loop: {beside[0]}, then {beside[1]}"
    return Comparison(
        (
            *_differences(old.regime, new.regime),
            # Caches remember who else took turns.
            *((neighbours,) if beside[0] != beside[1] else ()),
        ),
        tuple(changes),
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name not in before),
    )


def _differences(old: Regime, new: Regime) -> Iterator[str]:
    for what, then, now in (
        ("bundle", old.manifest_sha256[:12], new.manifest_sha256[:12]),
        ("backend", old.backend, new.backend),
        ("target", old.target, new.target),
        ("threads", old.threads, new.threads),
        ("calls at a time", old.streams, new.streams),
        ("device", old.device, new.device),
        ("power mode", old.power_mode or "not told", new.power_mode or "not told"),
        ("a call", old.call_text, new.call_text),
        ("warm-up in ms", f"{old.stop.warm_up_ms:g}", f"{new.stop.warm_up_ms:g}"),
        *_by_name("version of", old.versions, new.versions),
        *_by_name("input", old.inputs, new.inputs),
    ):
        if then != now:
            yield f"{what}: {then}, then {now}"


def _by_name(
    what: str, old: Mapping[str, str], new: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    for name in sorted({*old, *new}):
        yield f"{what} {name}", old.get(name, "none"), new.get(name, "none")
