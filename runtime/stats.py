"""What an ``AdaptiveEngine`` reports of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .governor import predict_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .backends import Sharing
    from .budget import Budget
    from .governor import Estimate, OperatingPoint
    from .residency import ResidencyCounts


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One finished call.

    Attributes:
        configuration: What ran.
        latency_ms: What the backend took; the checks and the choice come on top.
        predicted_ms: What was predicted when it was chosen.
        budget: What was granted.
        feasible: Whether the prediction was within the budget.
        reason: Why this configuration, as a sentence.
    """

    configuration: str
    latency_ms: float
    predicted_ms: float
    budget: Budget
    feasible: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ConfigurationStats:
    """One configuration of an open engine.

    Attributes:
        configuration: Its name.
        calls: Calls that it finished.
        p50_ms: Its median latency before any correction.
        p95_ms: Its 95th percentile before any correction.
        source: Where these two are from: ``table`` (measured on the host that built the
            engines), ``front`` (``latency_ms`` of ``front.json``) or ``macs`` (estimated
            from its MACs; the scale comes from the first call).
        predicted_ms: Its latency as predicted now: ``p95_ms`` x slow-down x residual.
        residual: What it deviates by beyond the shared slow-down.
        weights_bytes: Bytes of weights that its engine refers to.
        own_bytes: Those of them that no other engine refers to.
    """

    configuration: str
    calls: int
    p50_ms: float
    p95_ms: float
    source: str
    predicted_ms: float
    residual: float
    weights_bytes: int
    own_bytes: int

    @property
    def shared_bytes(self) -> int:
        """Bytes of weights that its engine shares with at least one other."""
        return self.weights_bytes - self.own_bytes


@dataclass(frozen=True, slots=True)
class EngineStats:
    """An open engine, at one moment.

    Attributes:
        backend: The backend's name.
        threads: Threads that a call runs on.
        ranked_by: What stands for accuracy: ``accuracy``, ``macs``, or ``rank`` for points
            that the caller gave.
        calls: Calls finished.
        switches: Calls that ran another configuration than the call before.
        infeasible_calls: Calls whose budget nothing was predicted to meet, refused ones
            included.
        slowdown: Measured over tabled latency, shared by all configurations.
        sharing: What the loaded engines share.
        residency: How often engines were loaded, had to leave, and were waited for.
        configurations: One entry per configuration, in the bundle's order.
    """

    backend: str
    threads: int
    ranked_by: str
    calls: int
    switches: int
    infeasible_calls: int
    slowdown: float
    sharing: Sharing
    residency: ResidencyCounts
    configurations: tuple[ConfigurationStats, ...]


def configuration_stats(
    points: Sequence[OperatingPoint], estimate: Estimate, calls: Mapping[str, int]
) -> tuple[ConfigurationStats, ...]:
    """Returns one entry per operating point.

    Args:
        points: What was known of each configuration at the start.
        estimate: What was learnt since.
        calls: Finished calls by configuration.
    """
    return tuple(
        ConfigurationStats(
            configuration=point.configuration,
            calls=calls[point.configuration],
            p50_ms=point.p50_ms,
            p95_ms=point.p95_ms,
            source=point.source,
            predicted_ms=predict_ms(point, estimate),
            residual=estimate.residuals[point.configuration],
            weights_bytes=point.weights_bytes,
            own_bytes=point.own_bytes,
        )
        for point in points
    )
