"""From a bundle to a report: load, take turns, then switches, energy, phases and layers."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime.backends.phases import phased_backend
from skipc.runtime.bundle.device import gpu_devices, this_device
from skipc.runtime.errors import MeterError
from skipc.runtime.load.opening import started_sampler
from skipc.runtime.load.points import operating_points
from skipc.tools.trtbench.latency import summarize
from skipc.tools.trtbench.loading import PlainUnavailableError, load_family, load_plain
from skipc.tools.trtbench.loop import Trace, timed
from skipc.tools.trtbench.probes import (
    measure_energy,
    measure_phases,
    measure_switches,
    profile_of,
    summarize_phases,
)
from skipc.tools.trtbench.report import Conditions, Measured, MeterInfo, Regime, Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from skipc.runtime import Reading, Sampler
    from skipc.runtime.backends import Run
    from skipc.tools.console import Steps
    from skipc.tools.trtbench.command import Asked
    from skipc.tools.trtbench.loading import LoadedFamily, Subject
    from skipc.tools.trtbench.probes import Energy, PhasedCalls, Profile, Switching
    from skipc.tools.trtbench.report import PlainCalls

_WORTH_SAYING_S = 10.0
_PLAIN = "plain:"  # no configuration's name has a colon
# Thermal zones that nothing is connected to show other values.
_POSSIBLE_C = (-40.0, 150.0)
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
    before = conditions_now()
    with ExitStack() as stack:
        sampler = None
        if asked.meter is not None:
            sampler = started_sampler(asked.meter, subject.clock)
            stack.callback(sampler.close)
        step("loading the engines")
        family = load_family(subject, stack)
        plain: Mapping[str, tuple[Run, PlainCalls]] = {}
        not_run = ""
        try:
            plain = load_plain(family) if asked.plain else {}
        except PlainUnavailableError as reason:
            not_run = str(reason)
        found = Timed()
        if not asked.loading_only:
            beside = {f"{_PLAIN}{name}": run for name, (run, _) in plain.items()}
            found = _time(family, beside, sampler, asked, step)
    points = operating_points(
        subject.bundle.manifest, subject.engines, subject.backend.threads
    )
    ranks = {point.configuration: point.rank for point in points}
    reference = max(family.entries, key=lambda name: ranks[name])
    known = {name: calls for name, (_, calls) in plain.items()}
    rows = _with_times(family.entries, known, reference, found, asked)
    regime = _regime(subject, asked, before, sampler, found.trace.warm_up_rounds)
    profiles = _profiles(subject, asked, step) if asked.layers else {}
    return Found(Report(regime, reference, rows, found.switching, not_run), found, profiles)


def _time(
    family: LoadedFamily,
    beside: Mapping[str, Run],
    sampler: Sampler | None,
    asked: Asked,
    step: Steps,
) -> Timed:
    subject, now_ns = family.subject, family.subject.clock.now_ns
    phased = phased_backend(subject.backend)
    runs, cases = family.runs(None if phased is None else asked.way), subject.cases
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
        latest = partial(_latest, sampler)
        energies = measure_energy(runs, cases, sampler.meter, latest, now_ns)
    routes = family.phased_routes()
    if not routes:
        return Timed(trace, switching, energies)
    step("measuring phases")
    calls = measure_phases(routes, subject.cases, asked.way, asked.stop, now_ns)
    return Timed(trace, switching, energies, calls)


def _latest(sampler: Sampler) -> Reading | None:
    if sampler.failure:
        raise MeterError(
            f"the meter {sampler.meter.name!r} cannot be read: {sampler.failure} See what it"
            " shows with `skipc meters`, or leave out --meter."
        )
    return sampler.latest


def _profiles(subject: Subject, asked: Asked, step: Steps) -> dict[str, Profile]:
    """Returns the layers of each graph, found in engines loaded for this."""
    step("profiling layers")
    duration_s, now_ns = asked.stop.duration_s, subject.clock.now_ns
    return {
        graph: profile_of(subject.backend, graph, subject.cases, duration_s, now_ns)
        for graph in dict.fromkeys(subject.alone.values())
    }


def _with_times(
    entries: Mapping[str, Measured],
    plain: Mapping[str, PlainCalls],
    reference: str,
    found: Timed,
    asked: Asked,
) -> tuple[Measured, ...]:
    """Returns the entries with what was timed of each."""
    latencies = {
        name: summarize(calls.latencies_ms, asked.percents, asked.average_runs, calls.wall_ms)
        for name, calls in found.trace.calls.items()
    }
    phases = {
        name: summarize_phases(calls, asked.percents, asked.way.transfers)
        for name, calls in found.phased.items()
    }
    rows = []
    for name, entry in entries.items():
        latency, session, over = latencies.get(name), plain.get(name), None
        if latency is not None and name != reference:
            over = latency.over(latencies[reference])
        if latency is not None and session is not None:
            beside = latencies[f"{_PLAIN}{name}"]
            session = replace(session, latency=beside, over_ours=beside.over(latency))
        rows.append(
            replace(
                entry,
                load_parts=entry.load_parts if asked.refit else None,
                latency=latency,
                over_reference=over,
                phases=phases.get(name),
                energy=found.energies.get(name),
                plain=session,
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


def conditions_now(root: Path = Path("/")) -> Conditions:
    """Returns what the device is like now.

    Args:
        root: The folder to take for ``/``.
    """
    zones = _numbers((root / "sys/class/thermal").glob("thermal_zone*/temp"), 1e3)
    possible = [value for value in zones if _POSSIBLE_C[0] < value < _POSSIBLE_C[1]]
    policies = (root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_cur_freq")
    cpus = _numbers(policies, 1e3)
    gpus = _numbers((device / "cur_freq" for device in gpu_devices(root)), 1e6)
    return Conditions(
        temperature_c=max(possible, default=None),
        cpu_mhz=fmean(cpus) if cpus else None,
        gpu_mhz=max(gpus, default=None),
    )


def _numbers(paths: Iterable[Path], unit: float) -> list[float]:
    """Returns what the files hold, in ``unit``; those that cannot be read are left out."""
    found = []
    for path in sorted(paths):
        try:
            found.append(int(path.read_text(encoding="ascii")) / unit)
        except (OSError, ValueError):  # a zone that is switched off answers with an error
            continue
    return found
