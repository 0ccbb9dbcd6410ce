"""What is learnt of a meter that shows less and less."""

from __future__ import annotations

from skipc.runtime import OperatingPoint
from skipc.runtime.governor.energy import Spent, first_energy, observe_energy


def test_what_readings_deny_for_ever_does_not_vanish():
    points = [OperatingPoint("full", 0.9, 10.0, 10.0, energy_mj=100.0)]
    estimate = first_energy(points, metered=True, idle_w=1.0)
    for _ in range(500):
        spent = Spent({"full": 10 * estimate.call_mj["full"]}, 100 * estimate.idle_w)
        estimate = observe_energy(estimate, spent, 0.0)
    assert 0 < estimate.call_mj["full"] < 1
    assert 0 < estimate.idle_w < 1
    assert (estimate.factors > 0).all()
