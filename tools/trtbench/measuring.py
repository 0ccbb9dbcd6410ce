"""From a bundle to a report: load, take turns, then switches, energy, phases and layers."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime.backends.tensorrt.backend import phased_backend
from skipc.runtime.backends.tensorrt.engine import TensorRTEngine
from skipc.runtime.bundle.device import conditions_now, this_device
from skipc.runtime.load.opening import started_sampler
from skipc.runtime.load.points import operating_points
from skipc.tools.trtbench.latency import summarize
from skipc.tools.trtbench.loading import load_family, load_plain, runs_on
from skipc.tools.trtbench.loop import Trace, timed
from skipc.tools.trtbench.probes import (
    measure_energy,
    measure_phases,
    measure_switches,
    profile_of,
    summarize_phases,
)
from skipc.tools.trtbench.report import MeterInfo, Regime, Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.runtime import Sampler
    from skipc.runtime.backends import Engine, Run
    from skipc.runtime.bundle.device import Conditions
    from skipc.tools.console import Steps
    from skipc.tools.trtbench.command import Asked
    from skipc.tools.trtbench.loading import Subject
    from skipc.tools.trtbench.probes import PhasedCalls, Profile
    from skipc.tools.trtbench.report import Energy, Measured, PlainCalls, Switching

_WORTH_SAYING_S = 10.0
_PLAIN = "plain:"  # no configuration's name has a colon
# What of an engine's host key is not a version.
_NOT_VERSIONS = ("architecture", "cpu_features")


@dataclass(frozen=True, slots=True)
class Timed:
    """What was timed of a loaded family; nothing where only loading was asked for.

    The calls of plain sessions are under ``plain:NAME``; those taken apart are further ones.
    """

    trace: Trace = field(default_factory=lambda: Trace(0, {}))
    switching: Switching | None = None
    energies: Mapping[str, Energy] = field(default_factory=dict)
    phased: Mapping[str, PhasedCalls] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A report, the single calls that it was made from, and the layers' times by graph."""

    report: Report
    timed: Timed
    profiles: Mapping[str, Profile]


def measure(subject: Subject, asked: Asked, step: Steps) -> Found:
    """Returns what was found of a family.

    Args:
        subject: What is measured. Its backend is left open.
        asked: What is to be found out.
        step: Told of the steps.

    Raises:
        BackendError: An engine could not be loaded or run.
        MeterError: The meter cannot be read.
        NumericsError: A plain session answers otherwise than our engine.
    """
    before, sampler = conditions_now(), None
    with ExitStack() as stack:
        if asked.meter is not None:
            sampler = stack.enter_context(closing(started_sampler(asked.meter, subject.clock)))
        step("loading the engines")
        engines, loaded = load_family(subject, stack)
        plain, plain_not_run = load_plain(subject, engines) if asked.baseline else ({}, "")
        found = Timed()
        if not asked.loading_only:
            beside = {f"{_PLAIN}{name}": run for name, (run, _) in plain.items()}
            found = _time(subject, engines, beside, sampler, asked, step)
    manifest, backend = subject.bundle.manifest, subject.backend
    points = operating_points(manifest, subject.engines, backend.threads)
    ranks = {point.configuration: point.rank for point in points}
    reference = max(loaded, key=ranks.__getitem__)
    sessions = {name: calls for name, (_, calls) in plain.items()}
    rows = _with_times(loaded, sessions, reference, found, asked)
    regime = _regime(subject, asked, before, sampler, found.trace.warm_up_rounds)
    profiles = {}
    if asked.layers:
        step("profiling layers")
        duration_s, now_ns = asked.stop.duration_s, subject.clock.now_ns
        for graph in dict.fromkeys(subject.alone.values()):
            profiles[graph] = profile_of(backend, graph, subject.cases, duration_s, now_ns)
    report = Report(regime, reference, rows, found.switching, plain_not_run)
    return Found(report, found, profiles)


def _time(
    subject: Subject,
    engines: Mapping[str, Engine],
    beside: Mapping[str, Run],
    sampler: Sampler | None,
    asked: Asked,
    step: Steps,
) -> Timed:
    phased, now_ns = phased_backend(subject.backend), subject.clock.now_ns
    runs, cases = runs_on(engines, subject, asked.way), subject.cases
    if phased is not None and not asked.way.transfers:
        cases = [phased.upload(case) for case in cases]

    def expect(seconds: float) -> None:
        if seconds >= _WORTH_SAYING_S:
            step(f"measuring latency, for about {seconds:.0f} s")

    step("measuring latency")
    trace = timed({**runs, **beside}, cases, asked.stop, now_ns, asked.streams, expect)
    step("measuring switches")
    switching = measure_switches(runs, cases[0], asked.stop.duration_s, now_ns)
    energies: Mapping[str, Energy] = {}
    if sampler is not None:
        step("measuring energy")
        energies = measure_energy(runs, cases, sampler, now_ns)
    apart: dict[str, TensorRTEngine] = {}
    for name, graph in subject.alone.items():
        if isinstance(engine := engines[graph], TensorRTEngine):
            apart[name] = engine
    if not apart:
        return Timed(trace, switching, energies)
    step("measuring phases")
    calls = measure_phases(apart, subject.cases, asked.way, asked.stop, now_ns)
    return Timed(trace, switching, energies, calls)


def _with_times(
    loaded: Mapping[str, Measured],
    sessions: Mapping[str, PlainCalls],
    reference: str,
    found: Timed,
    asked: Asked,
) -> tuple[Measured, ...]:
    """Returns the configurations with what was timed of each."""
    latencies = {
        name: summarize(calls.latencies_ms, asked.percents, asked.average_runs, calls.wall_ms)
        for name, calls in found.trace.calls.items()
    }
    phases = {
        name: summarize_phases(calls, asked.percents, asked.way.transfers)
        for name, calls in found.phased.items()
    }
    rows = []
    for name, entry in loaded.items():
        latency, plain, over = latencies.get(name), sessions.get(name), None
        if latency is not None and name != reference:
            over = latency.over(latencies[reference])
        if latency is not None and plain is not None:
            beside = latencies[f"{_PLAIN}{name}"]
            plain = replace(plain, latency=beside, over_ours=beside.over(latency))
        rows.append(
            replace(
                entry,
                load_parts=entry.load_parts if "--timeRefit" in asked.flags else None,
                latency=latency,
                over_reference=over,
                phases=phases.get(name),
                energy=found.energies.get(name),
                plain=plain,
            )
        )
    return tuple(rows)


def _regime(
    subject: Subject,
    asked: Asked,
    before: Conditions,
    sampler: Sampler | None,
    warm_up_rounds: int,
) -> Regime:
    device, engines = this_device(), subject.engines
    meter = None if sampler is None else sampler.meter
    host = {} if engines is None else engines.host
    return Regime(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bundle=subject.bundle.manifest.name,
        manifest_sha256=subject.bundle.manifest_sha256,
        backend=subject.backend.name,
        target="null" if engines is None else engines.target,
        threads=subject.backend.threads,
        device=device.name,
        power_mode=device.power_mode,
        before=before,
        after=conditions_now(),
        versions={
            "skipc": importlib.metadata.version("skipc"),
            "python": platform.python_version(),
            "numpy": np.__version__,
            **{name: text for name, text in host.items() if name not in _NOT_VERSIONS},
        },
        inputs={
            name: f"{'x'.join(map(str, array.shape)) or 'scalar'} {array.dtype}"
            for name, array in subject.cases[0].items()
        },
        cases=len(subject.cases),
        stop=asked.stop,
        streams=asked.streams,
        average_runs=asked.average_runs,
        warm_up_rounds=warm_up_rounds,
        meter=None if meter is None else MeterInfo(meter.name, meter.covers, meter.estimated),
        way=asked.way if phased_backend(subject.backend) else None,
    )
