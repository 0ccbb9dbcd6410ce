"""From a scenario's relative grants to budgets of one family on one device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime import Budget

if TYPE_CHECKING:
    from skipc.tools.simulate.device import SimulatedDevice
    from skipc.tools.simulate.scenario import Grant, Scenario


def budget_of(grant: Grant, scenario: Scenario, device: SimulatedDevice) -> Budget:
    """Returns the budget that a grant means for a device.

    Args:
        grant: In units of the most accurate configuration.
        scenario: It belongs to.
        device: What that configuration takes there.
    """
    full_w = full_power_w(scenario, device)
    left_s = scenario.duration_s - grant.at_s
    return Budget(
        latency_ms=_times(grant.latency, device.full_ms),
        quantile=grant.quantile,
        energy_mj=_times(grant.energy, device.full_mj),
        power_w=_times(grant.power, full_w),
        window_s=grant.window_s,
        energy_j=_times(grant.battery, full_w * left_s),
        horizon_s=None if grant.battery is None else left_s,
    )


def full_power_w(scenario: Scenario, device: SimulatedDevice) -> float:
    """Returns the mean power if the most accurate configuration serves all arrivals."""
    arrivals = scenario.arrivals
    busy_ms = arrivals.calls * device.full_ms
    period_ms = max(arrivals.period * device.full_ms, busy_ms)
    if arrivals.kind == "back-to-back":
        period_ms = busy_ms
    taken_mj = arrivals.calls * device.full_mj + device.idle_w * (period_ms - busy_ms)
    return taken_mj / period_ms


def _times(share: float | None, unit: float) -> float | None:
    return None if share is None else share * unit
