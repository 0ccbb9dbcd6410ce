"""What is measured, loaded: engines by graph, configurations as functions, plain sessions."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from skipc.compiler.errors import NumericsError
from skipc.compiler.extras import require
from skipc.compiler.verify.numerics import difference
from skipc.runtime import Bundle, SystemClock
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeEngine
from skipc.runtime.backends.phases import OWN_WAY, LoadTimes
from skipc.runtime.backends.tensorrt.backend import phased_backend
from skipc.runtime.backends.tensorrt.engine import TensorRTEngine
from skipc.runtime.call.chain import runs_of
from skipc.runtime.errors import BundleError, EngineError, sentence
from skipc.runtime.load.opening import bundle_backend, family_of, load_all
from skipc.tools.pss import added_bytes, pss_bytes
from skipc.tools.trtbench.report import DeviceShare, Measured, Memory, PlainCalls, Share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from skipc.runtime import Clock
    from skipc.runtime.backends import Arrays, Backend, Engine, Outputs, Run
    from skipc.runtime.backends.phases import Way
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.call.chain import Chain, Runs
    from skipc.runtime.load.opening import Family
    from skipc.runtime.load.residency import Residency

_FATAL_ONLY = 4  # errors come as exceptions
_LEAST_MS = 1e-6  # where the clock did not move


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        engines: The target's engines; None where the null backend stands in.
        clock: What is timed with.
        family: The routes of the configurations, in the bundle's order.
        cases: The inputs, checked; at least one.
        backend_bytes: What this process grew by as the backend was opened; None where the
            system does not tell.
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
    """Returns some configurations of a bundle with the backend that runs them, opened.

    Raises:
        BackendError: There are no engines for the target, or they do not fit this host.
    """
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

    Raises:
        BackendError: An engine could not be loaded or run; the configuration is named.
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
    chains = {name: partial(_answer, chain) for name, chain in runs.chains.items()}
    return {name: runs.plain.get(name) or chains[name] for name in subject.family.routes}


def _answer(chain: Chain, inputs: Arrays) -> Outputs:
    return chain.run(inputs).outputs


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
        parts = LoadTimes(
            sum(each.deserialize_ms for each in times), sum(refits_ms) if refits_ms else None
        )
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


def plain_session(path: Path, threads: int = 1) -> Run:
    """Returns what runs ONNX Runtime on a portable graph, as one uses it without skipc.

    With its defaults, all optimisations and weights of its own, but for one thing: threads
    that spin on after a call would take the cores from whatever is timed next. Within a call
    they spin as ever.

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
        reason = " ".join(str(cause).split())
        raise EngineError(
            f"ONNX Runtime refuses {path.name} as it stands: {reason}"
        ) from cause
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
    manifest, case, found = subject.bundle.manifest, subject.cases[0], {}
    for name, ours in runs_on(engines, subject).items():
        if len(subject.family.routes[name]) > 1:
            reason = (
                f"configuration {name!r} runs several graphs, which no plain session does."
            )
            return {}, reason
        graph = manifest.graph(subject.graphs[name][0])
        start_ns, checked = time.perf_counter_ns(), graph.verification
        try:
            session = plain_session(subject.bundle.graph_file(graph), subject.backend.threads)
        except (BundleError, EngineError) as refused:
            return {}, str(refused)
        loaded_ns = time.perf_counter_ns()
        outputs = session(case)
        end_ns = time.perf_counter_ns()
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
