"""From a bundle to a report: load, take turns, then switches, energy, phases and layers."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.targets.golden import run_route
from skipc.runtime import Bundle, SystemClock
from skipc.runtime.backends.phases import OWN_WAY
from skipc.runtime.backends.tensorrt.backend import phased_backend
from skipc.runtime.backends.tensorrt.engine import TensorRTEngine
from skipc.runtime.bundle.device import conditions_now, this_device
from skipc.runtime.bundle.route import upto_ends
from skipc.runtime.call.chain import runs_of
from skipc.runtime.load.opening import bundle_backend, family_of, started_sampler
from skipc.runtime.load.points import operating_points
from skipc.tools.trtbench import probes
from skipc.tools.trtbench.decided import decided, deciding, rows_of
from skipc.tools.trtbench.latency import summarize
from skipc.tools.trtbench.loading import added_bytes, load_family, pss_bytes
from skipc.tools.trtbench.loop import Trace, timed
from skipc.tools.trtbench.plain import load_plain
from skipc.tools.trtbench.report import (
    Measured,
    MeterInfo,
    Regime,
    Report,
    StageLatency,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from skipc.runtime import Clock, Meter, Sampler
    from skipc.runtime.backends import Arrays, Backend, Engine, Outputs, Run
    from skipc.runtime.backends.phases import Way
    from skipc.runtime.bundle.device import Conditions
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.call.chain import Runs
    from skipc.runtime.load.opening import Family
    from skipc.runtime.load.residency import Residency
    from skipc.tools.console import Steps
    from skipc.tools.trtbench.command import Asked
    from skipc.tools.trtbench.latency import Latency
    from skipc.tools.trtbench.loop import Calls
    from skipc.tools.trtbench.report import Decided, Energy, PlainCalls, Switching

_WORTH_SAYING_S = 10.0
_PLAIN, _STAGE = "plain:", "stage:"  # no configuration's name has a colon
# What of an engine's host key is not a version.
_NOT_VERSIONS = ("architecture", "cpu_features")


@dataclass(frozen=True, slots=True)
class OpenBundle:
    """What is measured, and the clock that times it.

    Attributes:
        engines: The target's engines; None where the null backend stands in.
        family: The routes of the configurations, in the bundle's order.
        cases: The inputs, checked; at least one.
        backend_bytes: What opening the backend took of memory; None where it is not told.
    """

    bundle: Bundle
    backend: Backend
    engines: EngineSet | None
    clock: Clock
    family: Family
    cases: Sequence[Arrays]
    backend_bytes: int | None

    @property
    def graphs(self) -> dict[str, tuple[str, ...]]:
        """The graphs that each configuration's route runs, each once."""
        routes = self.family.routes.items()
        return {n: tuple(dict.fromkeys(stage.graph for stage in route)) for n, route in routes}

    @property
    def alone(self) -> dict[str, str]:
        """The graph of each configuration that runs a single one, on the family's inputs."""
        routes = self.family.routes.items()
        return {name: r[0].graph for name, r in routes if r[0].is_plain and len(r) == 1}

    def runs(self, residency: Residency[Engine]) -> Runs:
        """Returns what each configuration runs, on the engines of ``residency``."""
        manifest, now_ns = self.bundle.manifest, self.clock.now_ns
        return runs_of(self.family, manifest.inputs, manifest.dimensions, residency, now_ns)


def open_bundle(
    path: Path,
    target: str | None,
    threads: int | None,
    names: Sequence[str],
    cases: Sequence[Arrays],
) -> OpenBundle:
    """Returns some configurations of a bundle with the backend that runs them, opened."""
    bundle, before = Bundle.open(path), pss_bytes()
    backend, engines, clock = bundle_backend(bundle, target, threads, None)
    backend_bytes, family = added_bytes(before, pss_bytes()), family_of(bundle, engines)
    family = replace(family, routes={name: family.routes[name] for name in names})
    clock = clock or SystemClock()
    return OpenBundle(bundle, backend, engines, clock, family, cases, backend_bytes)


def _runs(engines: Mapping[str, Engine], opened: OpenBundle, way: Way = OWN_WAY) -> Runs:
    """Returns what each configuration runs; ``way`` is for engines that have several."""
    made = {
        graph: engine.made(way) if isinstance(engine, TensorRTEngine) else engine
        for graph, engine in engines.items()
    }
    residency = opened.family.residency(made.__getitem__)
    for graph in made:
        residency.load(graph)
    return opened.runs(residency)


def runs_on(
    engines: Mapping[str, Engine], opened: OpenBundle, way: Way = OWN_WAY
) -> dict[str, Run]:
    """Returns each configuration as a function; ``way`` is for engines that have several."""
    runs = _runs(engines, opened, way)

    def answer(name: str, inputs: Arrays) -> Outputs:
        return runs.chains[name].run(inputs).outputs

    return {n: runs.plain.get(n) or partial(answer, n) for n in opened.family.routes}


def stage_runs(engines: Mapping[str, Engine], opened: OpenBundle) -> dict[str, Run]:
    """Returns the graphs that only routes of several stages run, each on what it is fed there.

    They go by ``stage:GRAPH``, and take what was found for each case in turn, whatever they
    are given.
    """
    fed: dict[str, list[Arrays]] = {}
    for name, graphs in opened.graphs.items():
        if not {*graphs} <= {*opened.alone.values(), *fed}:
            entry = opened.bundle.manifest.configuration(name)
            ran = [run_route(opened.bundle, entry, engines, dict(c)) for c in opened.cases]
            for stage, found in zip(entry.route, zip(*ran, strict=True), strict=True):
                fed.setdefault(stage.graph, [inputs for inputs, _ in found])

    def on_its_own(run: Run, cases: Sequence[Arrays]) -> Run:
        turns = cycle(cases)
        return lambda inputs: run(next(turns))

    alone = opened.alone.values()
    return {
        f"{_STAGE}{graph}": on_its_own(engines[graph].run, cases)
        for graph, cases in fed.items()
        if graph not in alone
    }


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A report and what it was made from: the single calls, and the layers' times by graph.

    The calls of plain sessions are under ``plain:NAME``, those of a stage's graph that no
    configuration runs alone under ``stage:GRAPH``; those taken apart are further ones. There
    are none where only loading was asked for. ``energies`` are by the same names.
    """

    report: Report
    calls: Mapping[str, Calls]
    energies: Mapping[str, Energy]
    phased: Mapping[str, probes.PhasedCalls]
    profiles: Mapping[str, probes.Profile]

    def name_of(self, graph: str) -> str:
        """Returns the name that the calls of a graph on its own are under."""
        plain = (e.name for e in self.report.configurations if e.graphs == (graph,))
        return next(plain, f"{_STAGE}{graph}")


@dataclass(frozen=True, slots=True)
class _Timings:
    """What the loop found, and what was measured after it."""

    trace: Trace = field(default_factory=lambda: Trace(0, {}))
    switching: Switching | None = None
    energies: Mapping[str, Energy] = field(default_factory=dict)
    phased: Mapping[str, probes.PhasedCalls] = field(default_factory=dict)
    decided: Mapping[str, tuple[Decided, ...]] = field(default_factory=dict)


def measure(opened: OpenBundle, asked: Asked, step: Steps) -> Benchmark:
    """Returns what was found of a family, whose backend is left open.

    Raises:
        BackendError: An engine could not be loaded or run.
        MeterError: The meter cannot be read.
        NumericsError: A plain session answers otherwise than our engine.
    """
    before, meter = conditions_now(), None
    with ExitStack() as stack:
        sampler = None
        if asked.meter is not None:
            sampler = stack.enter_context(closing(started_sampler(asked.meter, opened.clock)))
            meter = sampler.meter
        step("loading the engines")
        engines, loaded = load_family(opened, stack)
        plain, why_not = (
            load_plain(opened, runs_on(engines, opened)) if asked.baseline else ({}, "")
        )
        found = _Timings()
        if not asked.loading_only:
            found = _time(opened, asked, engines, plain, sampler, step)
    manifest, backend = opened.bundle.manifest, opened.backend
    points = operating_points(manifest, opened.engines, backend.threads)
    ranks = {point.configuration: point.rank for point in points}
    reference = max(loaded, key=ranks.__getitem__)
    rows = _rows(opened, asked, loaded, plain, found, reference)
    profiles = {}
    if asked.layers:
        step("profiling layers")
        for graph in dict.fromkeys(opened.alone.values()):
            profiles[graph] = probes.profile_of(
                backend, graph, opened.cases, asked.duration_s, opened.clock.now_ns
            )
    regime = _regime(opened, asked, before, meter, found.trace.warm_up_rounds)
    report = Report(regime, reference, rows, found.switching, why_not)
    return Benchmark(report, found.trace.calls, found.energies, found.phased, profiles)


def _time(
    opened: OpenBundle,
    asked: Asked,
    engines: Mapping[str, Engine],
    plain: Mapping[str, tuple[Run, PlainCalls]],
    sampler: Sampler | None,
    step: Steps,
) -> _Timings:
    """Makes the calls: configurations, stages and plain sessions take turns."""
    now_ns, cases, on_device = (
        opened.clock.now_ns,
        opened.cases,
        phased_backend(opened.backend),
    )
    runs = runs_on(engines, opened, asked.way)
    stages = stage_runs(engines, opened)
    if on_device is not None and not asked.way.transfers:
        cases = [on_device.upload(case) for case in cases]

    def expect(seconds: float) -> None:
        if seconds >= _WORTH_SAYING_S:
            step(f"measuring latency, for about {seconds:.0f} s")

    beside = {f"{_PLAIN}{name}": run for name, (run, _) in plain.items()}
    step("measuring latency")
    trace = timed(
        {**runs, **stages, **beside}, cases, asked.stop, now_ns, asked.streams, expect
    )
    step("measuring switches")
    switching = probes.measure_switches(runs, cases[0], asked.duration_s, now_ns)
    choices = _decided(opened, engines)
    energies: Mapping[str, Energy] = {}
    if sampler is not None:
        step("measuring energy")
        energies = probes.measure_energy({**runs, **stages}, cases, sampler, now_ns)
    phased: Mapping[str, probes.PhasedCalls] = {}
    apart = {
        name: engine
        for name, graph in opened.alone.items()
        if isinstance(engine := engines[graph], TensorRTEngine)
    }
    if apart:
        step("measuring phases")
        phased = probes.measure_phases(apart, opened.cases, asked.way, asked.stop, now_ns)
    return _Timings(trace, switching, energies, phased, choices)


def _decided(
    opened: OpenBundle, engines: Mapping[str, Engine]
) -> dict[str, tuple[Decided, ...]]:
    """Returns what gates and routers decide about the inputs."""
    manifest, chains = opened.bundle.manifest, _runs(engines, opened).chains
    found = [entry for entry in deciding(manifest) if entry.name in chains]
    rows = rows_of(manifest, opened.cases) if found else []
    return {
        entry.name: decided(
            [chains[entry.name].run(row) for row in rows], manifest, entry.routed is not None
        )
        for entry in found
    }


def _rows(
    opened: OpenBundle,
    asked: Asked,
    loaded: Mapping[str, Measured],
    plain: Mapping[str, tuple[Run, PlainCalls]],
    found: _Timings,
    reference: str,
) -> tuple[Measured, ...]:
    """Returns what was found of each configuration."""
    latencies = {
        name: summarize(calls.latencies_ms, asked.percents, asked.average_runs, calls.wall_ms)
        for name, calls in found.trace.calls.items()
    }
    phases = {
        name: probes.summarize_phases(calls, asked.percents, asked.way.transfers)
        for name, calls in found.phased.items()
    }
    of_graphs = {graph: latencies.get(name) for name, graph in opened.alone.items()}
    of_graphs |= {
        name.removeprefix(_STAGE): one
        for name, one in latencies.items()
        if name.startswith(_STAGE)
    }
    rows = []
    for name, entry in loaded.items():
        latency, session, over = latencies.get(name), plain.get(name), None
        if latency is not None and name != reference:
            over = latency.over(latencies[reference])
        beside_it = None if session is None else session[1]
        if latency is not None and beside_it is not None:
            its = latencies[f"{_PLAIN}{name}"]
            beside_it = replace(beside_it, latency=its, over_ours=its.over(latency))
        rows.append(
            replace(
                entry,
                load_parts=entry.load_parts if "--timeRefit" in asked.flags else None,
                latency=latency,
                over_reference=over,
                phases=phases.get(name),
                energy=found.energies.get(name),
                plain=beside_it,
                stages=_stages(opened, name, of_graphs) if latency is not None else (),
                decided=found.decided.get(name, ()),
            )
        )
    return tuple(rows)


def _stages(
    opened: OpenBundle, name: str, latencies: Mapping[str, Latency | None]
) -> tuple[StageLatency, ...]:
    """Returns the stages of a route that has several."""
    route, entry = opened.family.routes[name], opened.bundle.manifest.configuration(name)
    found = [(stage.graph, latencies[stage.graph]) for stage in route]
    known = [(graph, one) for graph, one in found if one is not None]
    if len(route) < 2 or len(known) < len(route):
        return ()
    upto_ms = upto_ends(route, [one.median_ms for _, one in known])
    return tuple(
        StageLatency(graph, answered, one, ms)
        for (graph, one), answered, ms in zip(known, entry.stops, upto_ms, strict=True)
    )


def _regime(
    opened: OpenBundle, asked: Asked, before: Conditions, meter: Meter | None, dropped: int
) -> Regime:
    device, engines = this_device(), opened.engines
    host = {} if engines is None else engines.host
    return Regime(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bundle=opened.bundle.manifest.name,
        manifest_sha256=opened.bundle.manifest_sha256,
        backend=opened.backend.name,
        target="null" if engines is None else engines.target,
        threads=opened.backend.threads,
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
            for name, array in opened.cases[0].items()
        },
        cases=len(opened.cases),
        stop=asked.stop,
        streams=asked.streams,
        average_runs=asked.average_runs,
        warm_up_rounds=dropped,
        meter=None if meter is None else MeterInfo(meter.name, meter.covers, meter.estimated),
        way=asked.way if phased_backend(opened.backend) else None,
    )
