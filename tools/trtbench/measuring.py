"""From a bundle to a report: load, take turns, then switches, energy, phases and layers."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.errors import NumericsError
from skipc.compiler.extras import require
from skipc.compiler.verify.numerics import difference
from skipc.runtime import Bundle, SystemClock
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeEngine
from skipc.runtime.backends.phases import OWN_WAY, LoadTimes
from skipc.runtime.backends.tensorrt.backend import phased_backend
from skipc.runtime.backends.tensorrt.engine import TensorRTEngine
from skipc.runtime.bundle.device import conditions_now, this_device
from skipc.runtime.call.chain import runs_of
from skipc.runtime.errors import BundleError, EngineError, sentence
from skipc.runtime.load.opening import bundle_backend, family_of, load_all, started_sampler
from skipc.runtime.load.points import operating_points
from skipc.tools.trtbench import probes
from skipc.tools.trtbench.latency import summarize
from skipc.tools.trtbench.loop import Trace, timed
from skipc.tools.trtbench.report import (
    DeviceShare,
    Measured,
    Memory,
    MeterInfo,
    PlainCalls,
    Regime,
    Report,
    Share,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.runtime import Clock, Meter
    from skipc.runtime.backends import Arrays, Backend, Engine, Outputs, Run
    from skipc.runtime.backends.phases import Way
    from skipc.runtime.bundle.device import Conditions
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.call.chain import Runs
    from skipc.runtime.load.opening import Family
    from skipc.runtime.load.residency import Residency
    from skipc.tools.console import Steps
    from skipc.tools.trtbench.command import Asked
    from skipc.tools.trtbench.loop import Calls
    from skipc.tools.trtbench.report import Energy, Switching

_WORTH_SAYING_S = 10.0
_PLAIN = "plain:"  # no configuration's name has a colon
# What of an engine's host key is not a version.
_NOT_VERSIONS = ("architecture", "cpu_features")
_ROLLUP = Path("/proc/self/smaps_rollup")
_FATAL_ONLY = 4  # errors come as exceptions
_LEAST_MS = 1e-6  # where the clock did not move


@dataclass(frozen=True, slots=True)
class Subject:
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
        return runs_of(self.family, manifest.inputs, manifest.batch, residency, now_ns)


def opened(
    path: Path,
    target: str | None,
    threads: int | None,
    names: Sequence[str],
    cases: Sequence[Arrays],
) -> Subject:
    """Returns some configurations of a bundle with the backend that runs them, opened."""
    bundle, before = Bundle.open(path), pss_bytes()
    backend, engines, clock = bundle_backend(bundle, target, threads, None)
    backend_bytes, family = added_bytes(before, pss_bytes()), family_of(bundle, engines)
    family = replace(family, routes={name: family.routes[name] for name in names})
    clock = clock or SystemClock()
    return Subject(bundle, backend, engines, clock, family, cases, backend_bytes)


def load_family(
    subject: Subject, stack: ExitStack
) -> tuple[Mapping[str, Engine], Mapping[str, Measured]]:
    """Loads each graph once and calls each configuration once; ``stack`` closes the engines.

    Returns:
        The engines by graph, and by configuration what loading it took.
    """
    engines: dict[str, Engine] = {}

    def load(graph: str) -> Engine:
        engines[graph] = subject.backend.load(graph)
        return engines[graph]

    residency = subject.family.residency(load)
    stack.callback(residency.close)
    return engines, {name: _load(subject, name, residency) for name in subject.family.routes}


def runs_on(
    engines: Mapping[str, Engine], subject: Subject, way: Way = OWN_WAY
) -> dict[str, Run]:
    """Returns each configuration as a function; ``way`` is for engines that have several."""
    made = {
        graph: engine.made(way) if isinstance(engine, TensorRTEngine) else engine
        for graph, engine in engines.items()
    }
    residency = subject.family.residency(made.__getitem__)
    for graph in made:
        residency.load(graph)
    runs = subject.runs(residency)

    def answer(name: str, inputs: Arrays) -> Outputs:
        return runs.chains[name].run(inputs).outputs

    return {n: runs.plain.get(n) or partial(answer, n) for n in subject.family.routes}


def _load(subject: Subject, name: str, residency: Residency[Engine]) -> Measured:
    """Loads what is not yet loaded of a configuration, and makes a call."""
    phased, now_ns = phased_backend(subject.backend), subject.clock.now_ns
    new = [graph for graph in subject.graphs[name] if not residency.ready(graph)]
    alone = replace(subject.family, routes={name: subject.family.routes[name]})
    free_bytes = 0 if phased is None else phased.device_free_bytes()
    runs, before, start_ns = subject.runs(residency), pss_bytes(), now_ns()
    called_ms = load_all(alone, residency, runs.warm_up, subject.cases[0], 1, now_ns)[name]
    load_ms = (now_ns() - start_ns) / 1e6 - called_ms
    own_bytes, host, parts, taken_bytes = added_bytes(before, pss_bytes()), None, None, 0
    if own_bytes is not None and subject.backend_bytes is not None:
        host = Share(own_bytes, subject.backend_bytes)
    if phased is not None:
        taken_bytes = max(free_bytes - phased.device_free_bytes(), 0)
        times = [phased.load_times(graph) for graph in new]
        refits_ms = [each.refit_ms for each in times if each.refit_ms is not None]
        read_ms = sum(each.deserialize_ms for each in times)
        parts = LoadTimes(read_ms, sum(refits_ms) if refits_ms else None)
    return Measured(
        name=name,
        graphs=subject.graphs[name],
        accuracy=subject.bundle.manifest.configuration(name).metrics.get("accuracy"),
        memory=_memory(subject, name, host, taken_bytes),
        load_ms=max(load_ms, _LEAST_MS),
        load_parts=parts,
        first_call_ms=max(called_ms, _LEAST_MS),
    )


def _memory(subject: Subject, name: str, host: Share | None, taken_bytes: int) -> Memory:
    graphs, engines, manifest = subject.graphs, subject.engines, subject.bundle.manifest
    others = {graph for other in graphs if other != name for graph in graphs[other]}
    sizes = {file.path: file.size_bytes for file in engines.files} if engines else {}
    own_bytes = all_bytes = device_bytes = workspace_bytes = 0
    for graph in graphs[name]:
        weights = manifest.graph(graph) if engines is None else engines.engine(graph)
        # A plan that holds its weights itself: there is no telling them from the rest.
        whole = 0 if weights.weights_bytes else sizes.get(weights.file, 0)
        all_bytes += weights.weights_bytes + whole
        own_bytes += 0 if graph in others else weights.own_bytes + whole
        if engines is not None:
            device_bytes += engines.engine(graph).device_bytes
            workspace_bytes = max(workspace_bytes, engines.engine(graph).workspace_bytes)
    device = DeviceShare(device_bytes, workspace_bytes, taken_bytes)
    return Memory(Share(own_bytes, all_bytes - own_bytes), host, device)


def pss_bytes(rollup: Path = _ROLLUP) -> int | None:
    """Returns this process's proportional set size; None where the system does not tell.

    A page that several mappings share counts once, divided among them: what a process costs.
    ``rollup`` is the file of Linux that tells it (proc(5), ``smaps_rollup``).
    """
    try:
        lines = rollup.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def added_bytes(before: int | None, after: int | None) -> int | None:
    """Returns by how much memory grew: 0 where it shrank, None where it cannot be told."""
    return None if before is None or after is None else max(after - before, 0)


def plain_session(path: Path, threads: int = 1) -> Run:
    """Returns what runs ONNX Runtime on a portable graph, as one uses it without skipc.

    With its defaults but for one thing: threads that spin on after a call would take the
    cores from whatever is timed next. Within a call they spin as ever.

    Raises:
        EngineError: ONNX Runtime refuses the graph.
    """
    ort = require("onnxruntime", "cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as cause:  # its errors have no common class
        why = " ".join(str(cause).split())
        raise EngineError(f"ONNX Runtime refuses {path.name} as it stands: {why}") from cause
    return OnnxRuntimeEngine(path.name, session).run


def load_plain(
    subject: Subject, engines: Mapping[str, Engine]
) -> tuple[Mapping[str, tuple[Run, PlainCalls]], str]:
    """Returns plain sessions by configuration, that answer as its engine does.

    With each comes what is known of it before it is timed. Where one cannot be had there are
    none, and the reason is the second thing returned.

    Raises:
        NumericsError: One answers otherwise than our engine.
    """
    case, now_ns, found = subject.cases[0], time.perf_counter_ns, {}
    for name, ours in runs_on(engines, subject).items():
        if len(subject.family.routes[name]) > 1:
            several = "runs several graphs, which no plain session does."
            return {}, f"configuration {name!r} {several}"
        graph = subject.bundle.manifest.graph(subject.graphs[name][0])
        start_ns, checked = now_ns(), graph.verification
        try:
            session = plain_session(subject.bundle.graph_file(graph), subject.backend.threads)
        except (BundleError, EngineError) as refused:
            return {}, str(refused)
        loaded_ns = now_ns()
        outputs = session(case)
        end_ns = now_ns()
        error = difference([outputs], [ours(case)], checked.ranges)
        # Each of the two may be that far from the reference, to either side.
        tolerance = 2 * checked.tolerance
        if not error.within(tolerance):
            raise NumericsError(
                f"baseline 'plain', configuration {name!r}:"
                f" {sentence(error.text('the engine', tolerance))} That is twice the tolerance"
                " that the bundle was verified with. Times of different answers are not"
                " compared. Please report it, or leave it out of --baseline."
            )
        load_ms, first_call_ms = (loaded_ns - start_ns) / 1e6, (end_ns - loaded_ns) / 1e6
        found[name] = session, PlainCalls(load_ms, first_call_ms, error.relative_error)
    return found, ""


@dataclass(frozen=True, slots=True)
class Found:
    """A report and what it was made from: the single calls, and the layers' times by graph.

    The calls of plain sessions are under ``plain:NAME``; those taken apart are further ones.
    Of both there are none where only loading was asked for.
    """

    report: Report
    calls: Mapping[str, Calls]
    phased: Mapping[str, probes.PhasedCalls]
    profiles: Mapping[str, probes.Profile]


def measure(subject: Subject, asked: Asked, step: Steps) -> Found:
    """Returns what was found of a family, whose backend is left open.

    Raises:
        BackendError: An engine could not be loaded or run.
        MeterError: The meter cannot be read.
        NumericsError: A plain session answers otherwise than our engine.
    """
    before, now_ns = conditions_now(), subject.clock.now_ns
    manifest, backend, phased = subject.bundle.manifest, subject.backend, {}
    sampler, trace = None, Trace(0, {})
    switching: Switching | None = None
    energies: Mapping[str, Energy] = {}

    def expect(seconds: float) -> None:
        if seconds >= _WORTH_SAYING_S:
            step(f"measuring latency, for about {seconds:.0f} s")

    with ExitStack() as stack:
        if asked.meter is not None:
            sampler = stack.enter_context(closing(started_sampler(asked.meter, subject.clock)))
        step("loading the engines")
        engines, loaded = load_family(subject, stack)
        plain, plain_not_run = load_plain(subject, engines) if asked.baseline else ({}, "")
        if not asked.loading_only:
            runs, cases = runs_on(engines, subject, asked.way), subject.cases
            on_device = phased_backend(backend)
            if on_device is not None and not asked.way.transfers:
                cases = [on_device.upload(case) for case in cases]
            beside = {f"{_PLAIN}{name}": run for name, (run, _) in plain.items()}
            step("measuring latency")
            trace = timed({**runs, **beside}, cases, asked.stop, now_ns, asked.streams, expect)
            step("measuring switches")
            switching = probes.measure_switches(runs, cases[0], asked.duration_s, now_ns)
            if sampler is not None:
                step("measuring energy")
                energies = probes.measure_energy(runs, cases, sampler, now_ns)
            apart = {
                name: engine
                for name, graph in subject.alone.items()
                if isinstance(engine := engines[graph], TensorRTEngine)
            }
            if apart:
                step("measuring phases")
                phased = probes.measure_phases(
                    apart, subject.cases, asked.way, asked.stop, now_ns
                )
    points = operating_points(manifest, subject.engines, backend.threads)
    ranks = {point.configuration: point.rank for point in points}
    reference = max(loaded, key=ranks.__getitem__)
    latencies = {
        name: summarize(calls.latencies_ms, asked.percents, asked.average_runs, calls.wall_ms)
        for name, calls in trace.calls.items()
    }
    phases = {
        name: probes.summarize_phases(calls, asked.percents, asked.way.transfers)
        for name, calls in phased.items()
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
        parts = entry.load_parts if "--timeRefit" in asked.flags else None
        row = replace(entry, load_parts=parts, latency=latency, over_reference=over)
        phase, energy = phases.get(name), energies.get(name)
        rows.append(replace(row, phases=phase, energy=energy, plain=beside_it))
    meter = None if sampler is None else sampler.meter
    regime = _regime(subject, asked, before, meter, trace.warm_up_rounds)
    profiles = {}
    if asked.layers:
        step("profiling layers")
        for graph in dict.fromkeys(subject.alone.values()):
            profiles[graph] = probes.profile_of(
                backend, graph, subject.cases, asked.duration_s, now_ns
            )
    report = Report(regime, reference, tuple(rows), switching, plain_not_run)
    return Found(report, trace.calls, phased, profiles)


def _regime(
    subject: Subject, asked: Asked, before: Conditions, meter: Meter | None, dropped: int
) -> Regime:
    device, engines = this_device(), subject.engines
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
        warm_up_rounds=dropped,
        meter=None if meter is None else MeterInfo(meter.name, meter.covers, meter.estimated),
        way=asked.way if phased_backend(subject.backend) else None,
    )
