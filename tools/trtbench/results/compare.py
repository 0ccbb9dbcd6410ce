"""``--compare``: what changed between two reports, and whether it is significant."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.runtime.errors import ChoiceError
from skipc.tools.trtbench.results.interval import independent_ratio
from skipc.tools.trtbench.results.regime import call_text

if TYPE_CHECKING:
    from skipc.tools.trtbench.results.interval import RatioInterval
    from skipc.tools.trtbench.results.report import Regime, Report
    from skipc.tools.trtbench.results.summary import Summary

_UNLIKE = 0.1
"""Logarithm of a change of the mean over the median that is worth telling."""


@dataclass(frozen=True, slots=True)
class Change:
    """What changed of one configuration.

    Attributes:
        configuration: Its name.
        old: Its latencies then.
        new: Its latencies now.
        interval: New over old.
        margin: The relative change that is expected between two measurements of one thing.
    """

    configuration: str
    old: Summary
    new: Summary
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
        if self.slower:
            return "slower"
        if self.faster:
            return "faster"
        if self.interval.slower or self.interval.faster:
            return f"within {self.margin:.1%}"
        return self.interval.verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed between two reports.

    Attributes:
        differences: In what the regimes differ, in words; empty where like is compared with
            like.
        changes: One entry for each configuration that both have.
        only_old: Configurations that only the old report has.
        only_new: Configurations that only the new one has.
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
    before = {entry.name: entry.latency for entry in old.configurations}
    after = {entry.name: entry.latency for entry in new.configurations}
    changes = []
    for name, then in before.items():
        if name not in after:
            continue
        now = after[name]
        if then is None or now is None:
            which = "old" if then is None else "new"
            raise ChoiceError(
                f"the {which} file has no latencies: it was made with --timeDeserialize."
                " Measure again without it."
            )
        interval = independent_ratio(now.batch_medians_ms, then.batch_medians_ms)
        interval = interval.covering(now.median_ms / then.median_ms)
        changes.append(Change(name, then, now, interval, margin))
    if not changes:
        raise ChoiceError(
            f"the files have no configuration in common: the old one has {[*before]}, the new"
            f" one {[*after]}. Compare two measurements of one family."
        )
    return Comparison(
        (*_differences(old.regime, new.regime), *_other_neighbours(old, new)),
        tuple(changes),
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name not in before),
    )


def _other_neighbours(old: Report, new: Report) -> tuple[str, ...]:
    """Returns in words what else took turns, where that differs: caches remember it."""
    then, now = (
        ", ".join(each.name for each in report.baselines if not each.not_run) or "none"
        for report in (old, new)
    )
    return () if then == now else (f"baselines in the loop: {then}, then {now}",)


def _differences(old: Regime, new: Regime) -> tuple[str, ...]:
    found = []
    for what, then, now in (
        ("bundle", old.manifest_sha256[:12], new.manifest_sha256[:12]),
        ("backend", old.backend, new.backend),
        ("target", old.target, new.target),
        ("threads", old.threads, new.threads),
        ("calls at a time", old.streams, new.streams),
        ("device", old.device, new.device),
        ("power mode", old.power_mode or "not told", new.power_mode or "not told"),
        ("a call", call_text(old.backend, old.way), call_text(new.backend, new.way)),
        ("warm-up in ms", f"{old.stop.warm_up_ms:g}", f"{new.stop.warm_up_ms:g}"),
    ):
        if then != now:
            found.append(f"{what}: {then}, then {now}")
    for what, was, has in (
        ("version of", old.versions, new.versions),
        ("input", old.inputs, new.inputs),
    ):
        for name in sorted({*was, *has}):
            then, now = was.get(name, "none"), has.get(name, "none")
            if then != now:
                found.append(f"{what} {name}: {then}, then {now}")
    return tuple(found)
