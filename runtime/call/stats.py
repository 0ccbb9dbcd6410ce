"""What an ``AdaptiveEngine`` reports of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ..governor import OperatingPoint
from ..governor.latency import predict_logs, predict_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..backends import Backend, Engine, Sharing
    from ..load.residency import Residency, ResidencyCounts
    from .controller import Controller
    from .orders import Orders
    from .record import ModeStats


_POINT_KEYS = [
    each.name for each in fields(OperatingPoint) if each.init and each.name != "energy_mj"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationStats(OperatingPoint):
    """One configuration of an open engine: its operating point, and what was learnt since.

    Its latencies are those before any correction, ``energy_mj`` is what is expected now.

    Attributes:
        calls: Calls that it finished.
        predicted_ms: Its latency as predicted now, at the budget's quantile.
        residual: What it deviates by beyond the shared slow-down.
    """

    calls: int
    predicted_ms: float
    residual: float

    @property
    def shared_bytes(self) -> int:
        """Bytes of weights that its engine shares with at least one other."""
        return self.weights_bytes - self.own_bytes


@dataclass(frozen=True, slots=True)
class EngineStats:
    """An open engine, at one moment; counts are since it was opened.

    Attributes:
        backend: The backend's name.
        threads: Threads that a call runs on.
        ranked_by: What stands for accuracy: ``accuracy``, ``macs``, or ``rank`` for points
            that the caller gave.
        calls: Calls finished.
        switches: Calls that ran another configuration than the call before.
        infeasible_calls: Calls that nothing was predicted to fit, refused ones included.
        slowdown: Measured over tabled latency, shared by all configurations.
        bad: Why a configuration is left out, by its name.
        hanging: How many calls of a configuration hang, by its name.
        metered_mj: Energy that the meter counted; None without a meter.
        meter_estimated: Whether it measures nothing and takes a power for granted.
        meter_lost: Whether it says nothing to be believed; energy is then estimated.
        sharing: What the loaded engines share.
        residency: How often engines were loaded, had to leave, and were waited for.
        configurations: One entry per configuration, in the bundle's order.
        modes: What became of the power modes; None where none is chosen.
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
    modes: ModeStats | None = None


def predicted_ms(
    control: Controller, orders: Orders, sizes: tuple[int, ...]
) -> dict[str, float]:
    """Returns what a call of these sizes is expected to stay within, by configuration.

    Of those that may run now: the pinned one, else those that reach the accuracy.
    """
    budget, pinned = orders.budget, orders.pinned
    with control.lock:
        points = control.health.usable(control.in_flight.hanging())
        if pinned is not None:
            points = [control.points[pinned]]
        elif budget.min_accuracy is not None:
            floor = budget.min_accuracy
            points = [point for point in points if point.rank >= floor] or points
        factor = 1.0 if control.sizes is None else control.sizes.factor(sizes)
        logs = predict_logs(points, control.state.latency, budget.deviations)
    names = [point.configuration for point in points]
    return {name: factor * math.exp(log) for name, log in zip(names, logs, strict=True)}


def engine_stats(
    control: Controller,
    orders: Orders,
    backend: Backend,
    sharing: Sharing,
    residency: Residency[Engine],
    modes: Callable[[], ModeStats] | None = None,
) -> EngineStats:
    """Returns what an engine reports of itself: of its calls, and of what runs them.

    ``modes`` tells what became of power modes; None where none is chosen.
    """
    metering, tally, deviations = control.metering, control.tally, orders.budget.deviations
    with control.lock:
        state = control.state
        configurations = tuple(
            ConfigurationStats(
                **{key: getattr(point, key) for key in _POINT_KEYS},
                energy_mj=state.energy.call_mj.get(name, 0.0),
                calls=tally.calls[name],
                predicted_ms=predict_ms(point, state.latency, deviations),
                residual=state.latency.residual(name),
            )
            for name, point in control.points.items()
        )
        return EngineStats(
            backend=backend.name,
            threads=backend.threads,
            ranked_by=orders.ranked_by,
            calls=sum(tally.calls.values()),
            switches=tally.switches,
            infeasible_calls=tally.infeasible,
            slowdown=state.latency.slowdown,
            bad=control.health.bad,
            hanging=control.in_flight.hanging(),
            metered_mj=None if metering is None else metering.total_mj,
            meter_estimated=metering is not None and metering.estimated,
            meter_lost=metering is not None and metering.lost,
            sharing=sharing,
            residency=residency.counts,
            configurations=configurations,
            modes=None if modes is None else modes(),
        )
