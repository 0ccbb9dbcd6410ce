"""What was found of the baselines, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.trtbench.results.interval import paired_ratio

if TYPE_CHECKING:
    from skipc.tools.trtbench.results.interval import RatioInterval
    from skipc.tools.trtbench.results.summary import Summary


@dataclass(frozen=True, slots=True)
class BaselineCalls:
    """What was found of one configuration of a baseline.

    Attributes:
        configuration: The configuration.
        load_ms: What loading it took; None where it came with another configuration.
        first_call_ms: What the first call took.
        relative_error: How far its outputs are from the engine's, over their range.
        latency: Its latencies; None if only loading was timed.
    """

    configuration: str
    load_ms: float | None
    first_call_ms: float
    relative_error: float
    latency: Summary | None

    def over(self, ours: Summary | None) -> RatioInterval | None:
        """Returns its latency over that of our engine, measured in the same rounds.

        Args:
            ours: The engine's latencies; None if only loading was timed, as is then returned.
        """
        if self.latency is None or ours is None:
            return None
        over = paired_ratio(self.latency.batch_medians_ms, ours.batch_medians_ms)
        return over.covering(self.latency.median_ms / ours.median_ms)


@dataclass(frozen=True, slots=True)
class BaselineFound:
    """What was found of a baseline.

    Attributes:
        name: Its name.
        not_run: Why it was not run; empty where it was.
        configurations: In the bundle's order; empty where it was not run.
    """

    name: str
    not_run: str
    configurations: tuple[BaselineCalls, ...]


def verdict(over: RatioInterval) -> str:
    """Returns who is faster; the interval's own words are about the baseline.

    Args:
        over: A baseline's latency over ours.
    """
    if over.slower:
        return "ours is faster"
    return "ours is slower" if over.faster else over.verdict
