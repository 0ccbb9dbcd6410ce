"""What happens to a device and what is asked of it, over some time.

Everything is relative to the family's most accurate configuration, so that one scenario fits
every bundle: latencies count in its median latency, energies in its energy per call, powers in
what the device draws when it serves all arrivals with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from skipc.profiles import read_toml
from skipc.runtime.bundle.constraints import (
    Above,
    AtLeast,
    AtMost,
    Below,
    Count,
    NotEmpty,
    OneOf,
    Positive,
    Text,
)
from skipc.runtime.bundle.records import read
from skipc.runtime.errors import SkipcError, choices_text

ARRIVALS = ("periodic", "back-to-back", "bursts")
MOST_PERIODS = 100_000
_FOLDER = Path(__file__).parent / "scenarios"

Moment = Annotated[float, AtLeast(0)]
Factor = Annotated[float, Above(0), AtMost(1000)]
Share = Annotated[float, AtLeast(0), AtMost(1)]


class ScenarioError(SkipcError):
    """There is no such scenario, or its file does not have the form of one."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When calls arrive.

    Attributes:
        kind: ``periodic``; ``back-to-back``, each as soon as the one before has ended; or
            ``bursts`` of calls back to back.
        period: Time between two arrivals, or between the starts of two bursts; 0 where each
            waits for the one before.
        calls: Calls in a burst; 1 otherwise.
    """

    kind: Annotated[str, OneOf(ARRIVALS)]
    period: Positive = 0.0
    calls: Count = 1

    @property
    def mean_period(self) -> float:
        """Mean time between two arrivals; 0 where each waits for the one before."""
        return self.period / self.calls

    def check(self, where: str) -> None:
        """Raises ``ScenarioError`` where a value does not belong to the kind."""
        if (self.kind == "bursts") != (self.calls > 1):
            raise ScenarioError(
                f"{where}: 'calls' is {self.calls} and 'kind' {self.kind!r}: bursts have more"
                " than one call each, other arrivals one."
            )
        if self.kind != "back-to-back" and not self.period:
            raise ScenarioError(f"{where}: the key 'period' is missing.")
        if self.kind == "back-to-back" and self.period:
            raise ScenarioError(
                f"{where}: 'period' is {self.period:g}, but calls back to back have none."
                " Remove it."
            )


@dataclass(frozen=True, slots=True)
class Change:
    """The device's speed changes, or how hard samples are.

    Attributes:
        at_s: When it begins to change.
        factor: From then on: latency over usual latency; or, of samples, the power to which
            the share is raised that is answered up to an exit. 0.7 becomes 0.34 at 3.
        over_s: How long the change takes; 0 for a step.
        modes: The power modes in which it does; all of them where none is named.
    """

    at_s: Moment
    factor: Factor
    over_s: Moment = 0.0
    modes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another process that takes the processor from time to time.

    Attributes:
        period_s: From one of its starts to the next.
        share: The share of that time that it runs.
        factor: Latency over usual latency while it runs.
    """

    period_s: Positive
    share: Annotated[float, Above(0), AtMost(1)]
    factor: Factor


@dataclass(frozen=True, slots=True)
class Noise:
    """What nobody can predict.

    Attributes:
        latency: Standard deviation of the logarithm of a call's latency.
        spike_share: Share of the calls that take much longer.
        spike_factor: How much longer.
        stall_share: Share of the calls that something else holds up.
        stall: By how much, in median latencies of the most accurate configuration; it is the
            same whatever runs.
        own: Standard deviation of the logarithm of what a configuration's true latency and
            energy are off the table.
        energy: The same, of a call's energy.
    """

    latency: Share = 0.05
    spike_share: Share = 0.0
    spike_factor: Annotated[float, AtLeast(0), AtMost(1000)] = 3.0
    stall_share: Share = 0.0
    stall: Annotated[float, AtLeast(0), AtMost(1000)] = 3.0
    own: Share = 0.02
    energy: Share = 0.05


@dataclass(frozen=True, slots=True)
class Power:
    """What the device draws.

    Attributes:
        running_w: While the network runs, for configurations whose energy is unknown.
        idle: While nothing runs, as a share of that of the most accurate configuration.
    """

    running_w: Positive = 10.0
    idle: Share = 0.3


@dataclass(frozen=True, slots=True)
class PowerMode:
    """A power mode of the device.

    Attributes:
        latency: Of calls in it, over the tabled latency.
        power: What the device draws while the network runs, over what it would.
        idle: The same while nothing runs.
        change_s: How long a change into it takes; meanwhile calls take as long as in the
            slower of both modes, at the power of the dearer one.
    """

    name: str
    latency: Factor = 1.0
    power: Factor = 1.0
    idle: Factor = 1.0
    change_s: Moment = 0.3


@dataclass(frozen=True, slots=True)
class ScriptedMeter:
    """A meter with its faults.

    Attributes:
        period_s: How often its value changes.
        resolution: Its smallest step, in calls of the most accurate configuration.
        noise: Standard deviation of what it adds to an interval, as a share.
        stops_at_s: From when on it cannot be read.
        back_at_s: From when on it can again.
        jumps_at_s: When it jumps forward by a thousand calls' energy.
    """

    period_s: Positive = 0.1
    resolution: Positive = 0.01
    noise: Moment = 0.02
    stops_at_s: Moment = float("inf")
    back_at_s: Moment = float("inf")
    jumps_at_s: Moment = float("inf")


@dataclass(frozen=True, slots=True)
class Grant:
    """A budget from some moment on.

    Attributes:
        at_s: From when on.
        latency: Of a call; None for no limit.
        quantile: The share of calls that stay within it.
        hard: Whether a route of several stages stops in time and answers with what it has.
        energy: Of a call on average; None for no limit.
        power: On average; None for no limit.
        window_s: Over how long the power is averaged.
        battery: Energy until the scenario's end, as a share of what the most accurate
            configuration would take for it; None for no limit.
    """

    at_s: Moment = 0.0
    latency: Positive | None = None
    quantile: Annotated[float, AtLeast(0.5), Below(1)] = 0.99
    hard: bool = False
    energy: Positive | None = None
    power: Positive | None = None
    window_s: Positive | None = None
    battery: Positive | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens to a device and what is asked of it.

    Attributes:
        seed: Of everything random in it.
        grants: The budgets, in the order of their time.
        slowdowns: Changes of the device's speed, in the order of their time.
        difficulties: Changes of how hard samples are; it matters to early exits alone.
        modes: The power modes that the governor may change between; it begins in the first.
            None leaves the device as it is.
        file: The name of its file, without the suffix; in the file itself it is not said.
    """

    FORMAT: ClassVar[str] = "skipc.scenario/1"

    name: str
    description: Text
    duration_s: Annotated[float, Above(0), AtMost(30 * 24 * 3600)]  # 30 days
    grants: Annotated[tuple[Grant, ...], NotEmpty()]
    seed: int = 0
    arrivals: Arrivals = Arrivals("periodic", 1.5)  # frozen
    slowdowns: tuple[Change, ...] = ()
    difficulties: tuple[Change, ...] = ()
    neighbour: Neighbour | None = None
    noise: Noise = Noise()  # frozen
    power: Power = Power()  # frozen
    modes: tuple[PowerMode, ...] = ()
    meter: ScriptedMeter | None = None
    file: str = ""

    def check(self, where: str) -> None:
        """Raises ``ScenarioError`` where times are out of order, or beyond the end."""
        if self.file:
            raise ScenarioError(f"{where}: unknown key 'file'. Remove it.")
        if self.grants[0].at_s > 0:
            raise ScenarioError(f"{where}: 'grants' must begin with one at at_s = 0.")
        changes: dict[str, tuple[Grant | Change, ...]] = {
            "grants": self.grants,
            "slowdowns": self.slowdowns,
            "difficulties": self.difficulties,
        }
        for key, entries in changes.items():
            times_s = [entry.at_s for entry in entries]
            if times_s != sorted(times_s):
                raise ScenarioError(f"{where}: {key!r} must be in the order of their 'at_s'.")
            if times_s and times_s[-1] >= self.duration_s:
                raise ScenarioError(
                    f"{where}: 'at_s' is {times_s[-1]:g}, but the scenario ends at"
                    f" {self.duration_s:g} s."
                )
        self._check_modes(where)
        neighbour = self.neighbour
        if neighbour is not None and self.duration_s > MOST_PERIODS * neighbour.period_s:
            raise ScenarioError(
                f"{where}: neighbour: 'period_s' is {neighbour.period_s:g}, more than"
                f" {MOST_PERIODS} of them in 'duration_s'."
            )

    def _check_modes(self, where: str) -> None:
        names = [mode.name for mode in self.modes]
        if len(names) != len(set(names)) or len(names) == 1:
            raise ScenarioError(
                f"{where}: 'modes' has {names}. Expected at least two, of different names."
            )
        for change in self.difficulties:
            if change.modes:
                raise ScenarioError(f"{where}: 'difficulties' have no 'modes'. Remove them.")
        for change in self.slowdowns:
            unknown = [name for name in change.modes if name not in names]
            if unknown:
                raise ScenarioError(
                    f"{where}: slowdowns: there is no mode {unknown[0]!r}."
                    f" {choices_text(unknown[0], names)}"
                )

    def slowdown_at(self, time_s: float, mode: str = "") -> float:
        """Returns latency over the mode's usual latency at a moment."""
        changes = self.slowdowns
        if self.modes:
            changes = tuple(c for c in changes if not c.modes or mode in c.modes)
        factor = _factor_at(changes, time_s)
        if self.neighbour is not None:
            within = time_s % self.neighbour.period_s
            if within < self.neighbour.share * self.neighbour.period_s:
                factor *= self.neighbour.factor
        return factor

    def difficulty_at(self, time_s: float) -> float:
        """Returns to what power shares of samples that are answered are raised then."""
        return _factor_at(self.difficulties, time_s)

    def steps_s(self) -> tuple[float, ...]:
        """Returns when something changes at once, so that a governor has to adapt."""
        steps = [0.0, *(grant.at_s for grant in self.grants)]
        changes = (*self.slowdowns, *self.difficulties)
        steps += [change.at_s for change in changes if change.over_s == 0]
        if self.neighbour is not None:
            period_s, count = self.neighbour.period_s, 0
            while count * period_s < self.duration_s:
                steps.append(count * period_s)
                steps.append((count + self.neighbour.share) * period_s)
                count += 1
        return tuple(sorted(steps))


def _factor_at(changes: tuple[Change, ...], time_s: float) -> float:
    factor = 1.0
    for change in changes:
        if time_s < change.at_s:
            break
        done = min((time_s - change.at_s) / change.over_s, 1.0) if change.over_s else 1.0
        factor += done * (change.factor - factor)
    return factor


def shipped_scenarios() -> dict[str, Path]:
    """Returns the files of the scenarios that come with skipc, by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def find_scenario(name: str) -> Scenario:
    """Returns a scenario by its name, or from your own file (``./my.toml``).

    Raises:
        ScenarioError: There is none, or its file is not a scenario.
    """
    if name.endswith(".toml") or "/" in name:
        return read_scenario(Path(name))
    shipped = shipped_scenarios()
    if name not in shipped:
        raise ScenarioError(
            f"there is no scenario {name!r}. {choices_text(name, shipped)} A file of your own"
            " ends in .toml."
        )
    return read_scenario(shipped[name])


def read_scenario(path: Path) -> Scenario:
    """Returns the scenario in a TOML file.

    Raises:
        ScenarioError: The file cannot be read, or is none; the message names the key.
    """
    scenario = read(Scenario, read_toml(path, ScenarioError), str(path), ScenarioError)
    return replace(scenario, file=path.stem)
