"""Changes of a simulated device's power mode, which take simulated time."""

from __future__ import annotations

from dataclasses import replace
from operator import mul
from typing import TYPE_CHECKING, final

from skipc.runtime.call.mode_changer import LOOK_S
from skipc.runtime.governor.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skipc.runtime import OperatingPoint
    from skipc.runtime.call.in_modes import ControllerInModes
    from skipc.tools.simulate.device import SimulatedDevice
    from skipc.tools.simulate.scenario import PowerMode, Scenario


@final
class SimulatedChanger:
    """Changes a simulated device's mode as the governor wants it.

    ``points`` are the configurations as tabled, which the modes' factors are over; ``stops``
    the shares of samples that each stage answers.
    """

    def __init__(
        self,
        scenario: Scenario,
        points: Sequence[OperatingPoint],
        device: SimulatedDevice,
        stops: Mapping[str, Sequence[float]],
    ) -> None:
        running_w = scenario.power.running_w
        self.modes: Sequence[Mode] = [
            Mode(
                mode.name,
                tuple(_in_mode(point, mode, running_w, stops) for point in points),
                {other.name: 1000 * mode.change_s for other in scenario.modes},
            )
            for mode in scenario.modes
        ]
        self._device = device
        self._done_s: float | None = None
        self._next_ns = 0

    @property
    def now(self) -> str:
        """The mode in force."""
        return self._device.now.mode.name

    def serve(self, control: ControllerInModes, now_ns: Callable[[], int]) -> None:
        """Changes the mode of what is controlled, when it is asked to look."""
        self._control, self._now_ns = control, now_ns

    def look(self) -> bool:
        """Begins or ends a change, where it is time for it; tells whether one goes on."""
        now_ns, done_s = self._now_ns(), self._done_s
        if done_s is None:
            if now_ns < self._next_ns:
                return False
            self._next_ns = now_ns + round(LOOK_S * 1e9)
            to = self._control.wanted(now_ns)
            if to == self._control.mode:
                return False
            self._control.begin_change(to, now_ns)
            self._done_s = self._device.change_mode(to)
        elif now_ns / 1e9 >= done_s:
            self._control.end_change(now_ns)
            self._done_s = None
        return True

    def close(self) -> None:
        """Does nothing: the device ends with the scenario."""


def _in_mode(
    point: OperatingPoint,
    mode: PowerMode,
    running_w: float,
    stops: Mapping[str, Sequence[float]],
) -> OperatingPoint:
    """Returns what would be measured of a configuration in a mode."""
    longer, shares = mode.latency, stops.get(point.configuration, (1.0,))
    mean_ms = sum(map(mul, shares, point.upto_ms or (point.p50_ms,)))
    energy_mj = point.energy_mj or running_w * mean_ms
    return replace(
        point,
        p50_ms=point.p50_ms * longer,
        p95_ms=point.p95_ms * longer,
        p99_ms=None if point.p99_ms is None else point.p99_ms * longer,
        mean_ms=point.mean_ms * longer,
        upto_ms=tuple(ms * longer for ms in point.upto_ms),
        upto_p99_ms=tuple(ms * longer for ms in point.upto_p99_ms),
        energy_mj=energy_mj * longer * mode.power,
    )
