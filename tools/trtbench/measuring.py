"""From a bundle to a report: load, loop, switches, energy."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from skipc.runtime.backends.phases import phased_backend
from skipc.runtime.errors import MeterError
from skipc.runtime.load.opening import started_sampler
from skipc.runtime.load.points import operating_points
from skipc.tools.trtbench.baselines.loading import lanes, with_latencies
from skipc.tools.trtbench.baselines.opening import opened_baselines
from skipc.tools.trtbench.results.regime import regime_of
from skipc.tools.trtbench.results.report import Measured, Report
from skipc.tools.trtbench.results.summary import summarize
from skipc.tools.trtbench.running.conditions import conditions_now
from skipc.tools.trtbench.running.energy import measure_energy
from skipc.tools.trtbench.running.layers import profile_of
from skipc.tools.trtbench.running.loading import load
from skipc.tools.trtbench.running.memory import Share, memory_of
from skipc.tools.trtbench.running.phases import measure_phases, summarize_phases, with_phases
from skipc.tools.trtbench.running.streams import measured_calls
from skipc.tools.trtbench.running.switching import measure_switches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.runtime import Bundle, Meter, Reading, Sampler
    from skipc.runtime.backends import Arrays, Engine
    from skipc.runtime.backends.phases import Way
    from skipc.tools.console import Steps
    from skipc.tools.trtbench.baselines.loading import ReadyBaseline
    from skipc.tools.trtbench.results.summary import Summary
    from skipc.tools.trtbench.running.energy import Energy
    from skipc.tools.trtbench.running.layers import Profile
    from skipc.tools.trtbench.running.loop import Calls, Trace
    from skipc.tools.trtbench.running.phases import PhasedCalls
    from skipc.tools.trtbench.running.switching import Switching
    from skipc.tools.trtbench.wanted import Subject, Wanted

_WORTH_SAYING_S = 10.0


@dataclass(frozen=True, slots=True)
class Found:
    """A report, and the single calls that it was made from.

    Attributes:
        report: The report.
        calls: Those of the engines, by configuration; empty if only loading was timed.
        phased: Further calls, taken apart, by configuration; empty where the backend cannot.
        profiles: Their layers' times; empty if these were not asked for.
    """

    report: Report
    calls: Mapping[str, Calls]
    phased: Mapping[str, PhasedCalls]
    profiles: Mapping[str, Profile]


def measure(subject: Subject, wanted: Wanted, step: Steps) -> Found:
    """Returns what was found of a family.

    Args:
        subject: What is measured. Its backend is left open.
        wanted: What is to be found out.
        step: Told of the steps.

    Raises:
        BackendError: An engine could not be loaded or run.
        MeterError: The meter cannot be read.
        CompileError: A baseline answers otherwise, or its checkpoint does not fit the bundle.
    """
    now_ns = subject.clock.now_ns
    before = conditions_now()
    trace: Trace | None = None
    switching: Switching | None = None
    meter: Meter | None = None
    energies: Mapping[str, Energy] = {}
    phased: Mapping[str, PhasedCalls] = {}
    baselines: tuple[ReadyBaseline, ...] = ()
    with ExitStack() as stack:
        if wanted.meter is not None:
            sampler = started_sampler(wanted.meter, subject.clock)
            stack.callback(sampler.close)
            meter = sampler.meter
        step("loading the engines")
        loaded = {
            name: load(subject.backend, name, subject.cases[0], now_ns, stack)
            for name in subject.names
        }
        engines = {name: one.engine for name, one in loaded.items()}
        way = None if phased_backend(subject.backend) is None else wanted.way
        baselines = opened_baselines(
            wanted.baselines,
            *(subject.bundle, subject.backend.threads, engines, subject.cases[0]),
            *(now_ns, stack, step),
        )
        if not wanted.loading_only:
            called, cases = _made(subject, engines, way)
            step("measuring latency")
            trace = measured_calls(
                *({**called, **lanes(baselines)}, cases, wanted.stop),
                *(wanted.streams, now_ns, partial(_tell, step)),
            )
            step("measuring switches")
            patience_s = wanted.stop.duration_s
            switching = measure_switches(called, cases[0], patience_s, now_ns)
            if wanted.meter is not None:
                step("measuring energy")
                energies = measure_energy(
                    called, cases, sampler.meter, lambda: _latest(sampler), now_ns
                )
            if way is not None:
                step("measuring phases")
                phased = measure_phases(engines, subject.cases, way, wanted.stop, now_ns)
    profiles = _profiles(subject, wanted.stop.duration_s, step) if wanted.layers else {}
    calls = {} if trace is None else trace.calls

    def summary_of(key: str) -> Summary | None:
        if key not in calls:
            return None
        found = calls[key]
        return summarize(
            found.latencies_ms, wanted.percents, wanted.average_runs, found.wall_ms
        )

    warm_up_rounds = 0 if trace is None else trace.warm_up_rounds
    regime = regime_of(subject, wanted, way, meter, before, warm_up_rounds)
    points = {
        point.configuration: point
        for point in operating_points(
            subject.bundle.manifest, subject.engines, subject.backend.threads
        )
    }
    entries = []
    for name, one in loaded.items():
        host = (
            None
            if one.host_bytes is None or subject.backend_bytes is None
            else Share(one.host_bytes, subject.backend_bytes)
        )
        entries.append(
            Measured(
                name=name,
                accuracy=_accuracy(subject.bundle, name),
                memory=memory_of(
                    subject.bundle, subject.engines, name, host, one.device_bytes
                ),
                load_ms=one.load_ms,
                load_parts=one.parts if wanted.load_parts else None,
                first_call_ms=one.first_call_ms,
                latency=summary_of(name),
                phases=summarize_phases(phased[name], wanted.percents, wanted.way.transfers)
                if name in phased
                else None,
                energy=energies.get(name),
            )
        )
    reference = max(loaded, key=lambda name: points[name].rank)
    others_found = tuple(with_latencies(each, summary_of) for each in baselines)
    report = Report(regime, reference, tuple(entries), switching, others_found)
    ours = {name: calls[name] for name in loaded if name in calls}
    return Found(report, ours, phased, profiles)


def _tell(step: Steps, seconds: float) -> None:
    """Says how long the loop will take, where that is worth saying."""
    if seconds >= _WORTH_SAYING_S:
        step(f"measuring latency, for about {seconds:.0f} s")


def _made(
    subject: Subject, engines: Mapping[str, Engine], way: Way | None
) -> tuple[Mapping[str, Engine], Sequence[Arrays]]:
    """Returns the engines that make calls in a way, and the inputs where it wants them."""
    backend = phased_backend(subject.backend)
    if way is None or backend is None:
        return engines, subject.cases
    made = {name: engine.made(way) for name, engine in with_phases(engines).items()}
    if way.transfers:
        return made, subject.cases
    return made, [backend.upload(case) for case in subject.cases]


def _profiles(subject: Subject, duration_s: float, step: Steps) -> dict[str, Profile]:
    step("profiling layers")
    return {
        name: profile_of(
            subject.backend, name, subject.cases, duration_s, subject.clock.now_ns
        )
        for name in subject.names
    }


def _accuracy(bundle: Bundle, configuration: str) -> float | None:
    entries = bundle.manifest.configurations
    entry = next(entry for entry in entries if entry.name == configuration)
    return entry.metrics.get("accuracy")


def _latest(sampler: Sampler) -> Reading | None:
    if sampler.failure:
        raise MeterError(
            f"the meter {sampler.meter.name!r} cannot be read: {sampler.failure} See what it"
            " shows with `skipc meters`, or leave out --meter."
        )
    return sampler.latest
