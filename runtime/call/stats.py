"""What an ``AdaptiveEngine`` reports of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..governor.latency import predict_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..backends import Backend, Engine, Sharing
    from ..governor import OperatingPoint, State
    from ..load.residency import Residency, ResidencyCounts
    from .controller import Controller
    from .orders import Orders


@dataclass(frozen=True, slots=True)
class ConfigurationStats:
    """One configuration of an open engine.

    Attributes:
        configuration: Its name.
        rank: Higher is more accurate; ``EngineStats.ranked_by`` says what it is.
        calls: Calls that it finished.
        p50_ms: Its median latency before any correction.
        p95_ms: Its 95th percentile before any correction.
        source: Where these two are from: ``measured`` (on this device, by ``trtbench
            --update``), ``table`` (on the host that built the engines), ``front``
            (``latency_ms`` of ``front.json``) or ``macs`` (estimated from its MACs; the
            scale comes from the first call).
        predicted_ms: Its latency as predicted now, at the budget's quantile.
        residual: What it deviates by beyond the shared slow-down.
        energy_mj: Energy of a call as expected now, in millijoules; 0 if nothing is known.
        weights_bytes: Bytes of weights that its engine refers to.
        own_bytes: Those of them that no other engine refers to.
    """

    configuration: str
    rank: float
    calls: int
    p50_ms: float
    p95_ms: float
    source: str
    predicted_ms: float
    residual: float
    energy_mj: float
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
        bad: Why a configuration is left out, by its name.
        hanging: How many calls of a configuration hang, by its name.
        metered_mj: Energy that the meter counted since the engine was opened; None without
            a meter.
        meter_estimated: Whether it measures nothing and takes a power for granted.
        meter_lost: Whether the meter says nothing that can be believed; energy is then
            estimated.
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
    bad: Mapping[str, str]
    hanging: Mapping[str, int]
    metered_mj: float | None
    meter_estimated: bool
    meter_lost: bool
    sharing: Sharing
    residency: ResidencyCounts
    configurations: tuple[ConfigurationStats, ...]


def engine_stats(
    control: Controller,
    orders: Orders,
    backend: Backend,
    sharing: Sharing,
    residency: Residency[Engine],
) -> EngineStats:
    """Returns what an engine reports of itself.

    Args:
        control: What its calls did.
        orders: What is asked of them.
        backend: What runs them.
        sharing: What its engines share.
        residency: Has its engines.
    """
    metering, tally, deviations = control.metering, control.tally, orders.budget.deviations
    with control.lock:
        return EngineStats(
            backend=backend.name,
            threads=backend.threads,
            ranked_by=orders.ranked_by,
            calls=sum(tally.calls.values()),
            switches=tally.switches,
            infeasible_calls=tally.infeasible,
            slowdown=control.state.latency.slowdown,
            bad=control.health.bad,
            hanging=control.in_flight.hanging(),
            metered_mj=None if metering is None else metering.total_mj,
            meter_estimated=metering is not None and metering.estimated,
            meter_lost=metering is not None and metering.lost,
            sharing=sharing,
            residency=residency.counts,
            configurations=tuple(
                _configuration_stats(point, tally.calls[name], control.state, deviations)
                for name, point in control.points.items()
            ),
        )


def _configuration_stats(
    point: OperatingPoint, calls: int, state: State, deviations: float
) -> ConfigurationStats:
    name = point.configuration
    return ConfigurationStats(
        configuration=name,
        rank=point.rank,
        calls=calls,
        p50_ms=point.p50_ms,
        p95_ms=point.p95_ms,
        source=point.source,
        predicted_ms=predict_ms(point, state.latency, deviations),
        residual=state.latency.residual(name),
        energy_mj=state.energy.call_mj.get(name, 0.0),
        weights_bytes=point.weights_bytes,
        own_bytes=point.own_bytes,
    )
