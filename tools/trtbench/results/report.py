"""What a benchmark found, as frozen dataclasses; ``document`` writes and reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.trtbench.results.interval import paired_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.runtime.backends.phases import LoadTimes, Way
    from skipc.tools.trtbench.baselines.found import BaselineFound
    from skipc.tools.trtbench.results.interval import RatioInterval
    from skipc.tools.trtbench.results.summary import Summary
    from skipc.tools.trtbench.running.conditions import Conditions
    from skipc.tools.trtbench.running.energy import Energy
    from skipc.tools.trtbench.running.loop import Stop
    from skipc.tools.trtbench.running.memory import Memory
    from skipc.tools.trtbench.running.phases import PhaseSummary
    from skipc.tools.trtbench.running.switching import Switching


@dataclass(frozen=True, slots=True)
class MeterInfo:
    """The meter that was read.

    Attributes:
        name: Its spec.
        covers: What its energy is spent on.
        estimated: Whether nothing was measured.
    """

    name: str
    covers: str
    estimated: bool


@dataclass(frozen=True, slots=True)
class Regime:
    """Under what conditions was measured: numbers of two regimes are not comparable.

    Attributes:
        created_utc: ISO 8601 date and time.
        bundle: The bundle's name.
        manifest_sha256: Hash of its manifest.
        backend: The runtime backend.
        target: Whose engines ran.
        threads: Threads of a call.
        device: Board, processor, cores, architecture, GPUs.
        power_mode: What capped the clocks; empty where the system does not tell.
        versions: Versions by name.
        inputs: Shape and type by input, e.g. ``1x3x224x224 float32``.
        cases: How many inputs were taken in turn.
        stop: Warm-up, duration and iterations asked for.
        streams: Calls of an engine at the same time.
        warm_up_rounds: Rounds dropped as warm-up.
        meter: The meter; None without one.
        before: What the device was like before the first engine was loaded.
        after: What it was like after the last call.
        way: How calls were made; None where the backend leaves no choice.
    """

    created_utc: str
    bundle: str
    manifest_sha256: str
    backend: str
    target: str
    threads: int
    device: str
    power_mode: str
    versions: Mapping[str, str]
    inputs: Mapping[str, str]
    cases: int
    stop: Stop
    streams: int
    warm_up_rounds: int
    meter: MeterInfo | None
    before: Conditions
    after: Conditions
    way: Way | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found of one configuration.

    Attributes:
        name: The configuration's name.
        accuracy: Its accuracy, 0 to 1; None where the bundle does not know it.
        memory: What it takes on disk, in host memory, on the device.
        load_ms: What loading its engine took; the first one also loads what all share.
        load_parts: What reading and refitting took of it; None where that was not asked.
        first_call_ms: What the first call took.
        latency: Its latencies; None if only loading was timed.
        phases: Calls taken apart; None likewise, or where the backend cannot.
        energy: Its energy per call; None without a meter.
    """

    name: str
    accuracy: float | None
    memory: Memory
    load_ms: float
    load_parts: LoadTimes | None
    first_call_ms: float
    latency: Summary | None
    phases: PhaseSummary | None
    energy: Energy | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """A configuration's latency over the reference's.

    Attributes:
        configuration: The configuration.
        interval: The ratio with its interval.
        accuracy_drop: The accuracy given up, 0 to 1; None where it is not known.
    """

    configuration: str
    interval: RatioInterval
    accuracy_drop: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """A benchmark of a family.

    Attributes:
        regime: Under what conditions.
        reference: The most accurate of the configurations, by the runtime's ranking.
        configurations: In the bundle's order.
        switching: The cost of switches; None for a single configuration, or if only loading
            was timed.
        baselines: What else was measured in the same rounds.
    """

    regime: Regime
    reference: str
    configurations: tuple[Measured, ...]
    switching: Switching | None
    baselines: tuple[BaselineFound, ...]

    def measured(self, name: str) -> Measured:
        """Returns the entry of a configuration that the report is known to have."""
        return next(entry for entry in self.configurations if entry.name == name)

    def ratios(self) -> tuple[Ratio, ...]:
        """Returns the others' ratios to the reference; none if only loading was timed."""
        reference = self.measured(self.reference)
        found = []
        for entry in self.configurations:
            if entry is reference or entry.latency is None or reference.latency is None:
                continue
            interval = paired_ratio(
                entry.latency.batch_medians_ms, reference.latency.batch_medians_ms
            ).covering(entry.latency.median_ms / reference.latency.median_ms)
            known = entry.accuracy is not None and reference.accuracy is not None
            drop = (reference.accuracy or 0.0) - (entry.accuracy or 0.0) if known else None
            found.append(Ratio(entry.name, interval, drop))
        return tuple(found)
