"""From a bundle to a report: load, loop, switches, energy."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.runtime.errors import EngineError, MeterError, SkipcError
from skipc.runtime.opening import started_sampler
from skipc.runtime.points import operating_points
from skipc.tools.trtbench.baselines.loading import lanes, with_latencies
from skipc.tools.trtbench.baselines.opening import opened_baselines
from skipc.tools.trtbench.conditions import conditions_now
from skipc.tools.trtbench.energy import measure_energy
from skipc.tools.trtbench.layers import profile_of
from skipc.tools.trtbench.regime import regime_of
from skipc.tools.trtbench.report import Measured, Report
from skipc.tools.trtbench.streams import measured_calls
from skipc.tools.trtbench.summary import summarize
from skipc.tools.trtbench.switching import measure_switches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skipc.runtime import Bundle, Clock, Meter, Reading, Sampler
    from skipc.runtime.backends import Arrays, Backend, Engine
    from skipc.runtime.engines import EngineSet
    from skipc.tools.console import Steps
    from skipc.tools.trtbench.baselines.loading import ReadyBaseline
    from skipc.tools.trtbench.baselines.options import BaselineOptions
    from skipc.tools.trtbench.energy import Energy
    from skipc.tools.trtbench.layers import Profile
    from skipc.tools.trtbench.loop import Calls, Stop, Trace
    from skipc.tools.trtbench.summary import Summary
    from skipc.tools.trtbench.switching import Switching


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        bundle: The bundle.
        backend: Its backend, opened.
        engines: The target's engines; None where the null backend stands in.
        clock: What is timed with.
        names: The configurations, in the bundle's order.
        cases: The inputs, checked; at least one.
    """

    bundle: Bundle
    backend: Backend
    engines: EngineSet | None
    clock: Clock
    names: tuple[str, ...]
    cases: Sequence[Arrays]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be found out.

    Attributes:
        stop: Warm-up, duration and iterations.
        loading_only: Whether to stop after the first calls.
        percents: The percentiles, 0 to 100.
        average_runs: How many calls in a row are averaged.
        meter: The meter's spec; None to measure no energy.
        baselines: What else is measured beside the engines.
        streams: Calls of an engine at the same time.
        layers: Whether to find the times of the layers, afterwards.
    """

    stop: Stop
    loading_only: bool
    percents: tuple[float, ...]
    average_runs: int
    meter: str | None
    baselines: BaselineOptions
    streams: int
    layers: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A report, and the single calls that it was made from.

    Attributes:
        report: The report.
        calls: Those of the engines, by configuration; empty if only loading was timed.
        profiles: Their layers' times; empty if these were not asked for.
    """

    report: Report
    calls: Mapping[str, Calls]
    profiles: Mapping[str, Profile]


@dataclass(frozen=True, slots=True)
class _Loaded:
    engine: Engine
    load_ms: float
    first_call_ms: float


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
    baselines: tuple[ReadyBaseline, ...] = ()
    with ExitStack() as stack:
        if wanted.meter is not None:
            sampler = started_sampler(wanted.meter, subject.clock)
            stack.callback(sampler.close)
            meter = sampler.meter
        step("loading the engines")
        loaded = {
            name: _load(subject.backend, name, subject.cases[0], now_ns, stack)
            for name in subject.names
        }
        engines = {name: one.engine for name, one in loaded.items()}
        baselines = opened_baselines(
            wanted.baselines,
            *(subject.bundle, subject.backend.threads, engines, subject.cases[0]),
            *(now_ns, stack, step),
        )
        if not wanted.loading_only:
            step("measuring latency")
            trace = measured_calls(
                *({**engines, **lanes(baselines)}, subject.cases, wanted.stop),
                *(wanted.streams, now_ns),
            )
            step("measuring switches")
            patience_s = wanted.stop.duration_s
            switching = measure_switches(engines, subject.cases[0], patience_s, now_ns)
            if wanted.meter is not None:
                step("measuring energy")
                energies = measure_energy(
                    engines, subject.cases, sampler.meter, lambda: _latest(sampler), now_ns
                )
    profiles = _profiles(subject, wanted.stop.duration_s, step) if wanted.layers else {}
    calls = {} if trace is None else trace.calls

    def summary_of(key: str) -> Summary | None:
        if key not in calls:
            return None
        found = calls[key]
        return summarize(
            found.latencies_ms, wanted.percents, wanted.average_runs, found.wall_ms
        )

    regime = regime_of(
        subject.bundle,
        subject.backend,
        subject.engines,
        subject.cases,
        wanted.stop,
        0 if trace is None else trace.warm_up_rounds,
        meter,
        before,
        wanted.streams,
        wanted.baselines.names,
    )
    points = {
        point.configuration: point
        for point in operating_points(
            subject.bundle.manifest, subject.engines, subject.backend.threads
        )
    }
    entries = []
    for name, one in loaded.items():
        own_bytes, shared_bytes = sizes_on_disk(subject.bundle, subject.engines, name)
        entries.append(
            Measured(
                name=name,
                accuracy=_accuracy(subject.bundle, name),
                own_bytes=own_bytes,
                shared_bytes=shared_bytes,
                load_ms=one.load_ms,
                first_call_ms=one.first_call_ms,
                latency=summary_of(name),
                energy=energies.get(name),
            )
        )
    reference = max(loaded, key=lambda name: points[name].rank)
    others_found = tuple(with_latencies(each, summary_of) for each in baselines)
    report = Report(regime, reference, tuple(entries), switching, others_found)
    ours = {name: calls[name] for name in loaded if name in calls}
    return Found(report, ours, profiles)


def sizes_on_disk(
    bundle: Bundle, engines: EngineSet | None, configuration: str
) -> tuple[int, int]:
    """Returns the bytes of a configuration's weights: its own, and those shared with others.

    Of its engine; of its subnet where there are no engines. A plan that holds its weights
    itself counts as a whole: there is no telling them from the rest.
    """
    if engines is None:
        entries = bundle.manifest.configurations
        subnet = next(entry for entry in entries if entry.name == configuration)
        return subnet.own_bytes, subnet.weights_bytes - subnet.own_bytes
    entry = engines.engine(configuration)
    if entry.weights_bytes:
        return entry.own_bytes, entry.weights_bytes - entry.own_bytes
    return next(file.size_bytes for file in engines.files if file.path == entry.file), 0


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


def _load(
    backend: Backend,
    name: str,
    case: Arrays,
    now_ns: Callable[[], int],
    stack: ExitStack,
) -> _Loaded:
    try:
        start_ns = now_ns()
        engine = backend.load(name)
        stack.callback(engine.close)
        loaded_ns = now_ns()
        engine.run(case)
        end_ns = now_ns()
    except SkipcError as cause:
        if repr(name) in str(cause):
            raise
        raise EngineError(f"configuration {name!r} could not be loaded: {cause}") from cause
    return _Loaded(
        engine, max(loaded_ns - start_ns, 1) / 1e6, max(end_ns - loaded_ns, 1) / 1e6
    )
