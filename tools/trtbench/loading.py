"""What is measured, loaded: engines by graph, configurations as functions, plain sessions."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import NumericsError
from skipc.compiler.extras import require
from skipc.compiler.verify.numerics import difference
from skipc.runtime.backends.phases import LoadTimes, PhasedEngine, phased_backend
from skipc.runtime.call.chain import runs_of
from skipc.runtime.load.loading import load_all
from skipc.tools.pss import added_bytes, pss_bytes
from skipc.tools.trtbench.report import DeviceShare, Measured, Memory, PlainCalls, Share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.runtime import Bundle, Clock
    from skipc.runtime.backends import Arrays, Backend, Engine, Outputs, Run
    from skipc.runtime.backends.phases import Way
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.call.chain import Chain, Runs
    from skipc.runtime.load.loading import Family
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

    def graphs(self, name: str) -> tuple[str, ...]:
        """Returns the graphs that a configuration's route runs, each once."""
        return tuple(dict.fromkeys(stage.graph for stage in self.family.routes[name]))

    @property
    def alone(self) -> dict[str, str]:
        """The graph of each configuration that runs a single one, on the family's inputs."""
        routes = self.family.routes.items()
        return {name: r[0].graph for name, r in routes if r[0].is_plain and len(r) == 1}

    def runs(self, residency: Residency[Engine]) -> Runs:
        """Returns what each configuration runs, on the engines of ``residency``."""
        manifest, now_ns = self.bundle.manifest, self.clock.now_ns
        return runs_of(self.family, manifest.inputs, manifest.batch, residency, now_ns)


@dataclass(frozen=True, slots=True)
class LoadedFamily:
    """A family, each graph of which was loaded once, each configuration called once.

    ``engines`` are by graph; ``entries`` hold what loading a configuration took, so far.
    """

    subject: Subject
    engines: Mapping[str, Engine]
    entries: Mapping[str, Measured]

    def runs(self, way: Way | None = None) -> dict[str, Run]:
        """Returns each configuration as a function that makes its calls in a way."""
        engines = self.engines
        if way is not None:
            engines = {graph: one.made(way) for graph, one in self._phased().items()}
        residency = self.subject.family.residency(engines.__getitem__)
        for graph in engines:
            residency.load(graph)
        runs = self.subject.runs(residency)
        return {**{name: partial(_answer, c) for name, c in runs.chains.items()}, **runs.plain}

    def phased_routes(self) -> dict[str, PhasedEngine]:
        """Returns the engine of each configuration whose calls can be taken apart."""
        phased = self._phased()
        return {name: phased[g] for name, g in self.subject.alone.items() if g in phased}

    def _phased(self) -> dict[str, PhasedEngine]:
        return {g: one for g, one in self.engines.items() if isinstance(one, PhasedEngine)}


def _answer(chain: Chain, inputs: Arrays) -> Outputs:
    return chain.run(inputs).outputs


def load_family(subject: Subject, stack: ExitStack) -> LoadedFamily:
    """Returns the family, loaded; ``stack`` closes the engines.

    Raises:
        BackendError: An engine could not be loaded or run; the configuration is named.
    """
    engines: dict[str, Engine] = {}

    def load(graph: str) -> Engine:
        engines[graph] = subject.backend.load(graph)
        return engines[graph]

    residency = subject.family.residency(load)
    stack.callback(residency.close)
    entries = {name: _load(subject, name, residency) for name in subject.family.routes}
    return LoadedFamily(subject, engines, entries)


def _load(subject: Subject, name: str, residency: Residency[Engine]) -> Measured:
    """Loads what is not yet loaded of a configuration, and makes a call."""
    phased, now_ns = phased_backend(subject.backend), subject.clock.now_ns
    new = [graph for graph in subject.graphs(name) if not residency.ready(graph)]
    free_bytes = None if phased is None else phased.device_free_bytes()
    alone = replace(subject.family, routes={name: subject.family.routes[name]})
    runs, before, start_ns = subject.runs(residency), pss_bytes(), now_ns()
    called_ms = load_all(alone, residency, runs, subject.cases[0], 1, now_ns)[name]
    taken_ms = (now_ns() - start_ns) / 1e6
    own_bytes, shared_bytes = added_bytes(before, pss_bytes()), subject.backend_bytes
    host = None
    if own_bytes is not None and shared_bytes is not None:
        host = Share(own_bytes, shared_bytes)
    left_bytes = None if phased is None else phased.device_free_bytes()
    return Measured(
        name=name,
        graphs=subject.graphs(name),
        accuracy=subject.bundle.manifest.configuration(name).metrics.get("accuracy"),
        memory=_memory(subject, name, host, added_bytes(left_bytes, free_bytes) or 0),
        load_ms=max(taken_ms - called_ms, _LEAST_MS),
        load_parts=None if phased is None else _sum([phased.load_times(g) for g in new]),
        first_call_ms=max(called_ms, _LEAST_MS),
        latency=None,
        over_reference=None,
        phases=None,
        energy=None,
        plain=None,
    )


def _sum(parts: Sequence[LoadTimes]) -> LoadTimes:
    refits_ms = [each.refit_ms for each in parts if each.refit_ms is not None]
    return LoadTimes(
        sum(each.deserialize_ms for each in parts), sum(refits_ms) if refits_ms else None
    )


def _memory(subject: Subject, name: str, host: Share | None, taken_bytes: int) -> Memory:
    if subject.engines is None:
        manifest = subject.bundle.manifest
        listed = manifest.graphs_of(manifest.configuration(name))
        own_bytes = sum(graph.own_bytes for graph in listed)
        disk = Share(own_bytes, sum(graph.weights_bytes for graph in listed) - own_bytes)
        return Memory(disk, host, DeviceShare(0, 0, taken_bytes))
    own_bytes = all_bytes = 0
    others = {
        g for other in subject.family.routes if other != name for g in subject.graphs(other)
    }
    entries = {graph: subject.engines.engine(graph) for graph in subject.graphs(name)}
    sizes = {file.path: file.size_bytes for file in subject.engines.files}
    for graph, entry in entries.items():
        # A plan that holds its weights itself: there is no telling them from the rest.
        whole = 0 if entry.weights_bytes else sizes[entry.file]
        all_bytes += entry.weights_bytes + whole
        own_bytes += 0 if graph in others else entry.own_bytes + whole
    device = DeviceShare(
        sum(entry.device_bytes for entry in entries.values()),
        max(entry.workspace_bytes for entry in entries.values()),
        taken_bytes,
    )
    return Memory(Share(own_bytes, all_bytes - own_bytes), host, device)


class PlainUnavailableError(Exception):
    """No plain session can be had; the message says why. No mistake of the user's."""


class PlainSession:
    """ONNX Runtime on a portable graph, as one uses it without skipc.

    With its defaults, all optimisations and weights of its own, but for one thing: threads
    that spin on after a call would take the cores from whatever is timed next. Within a call
    they spin as ever.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        onnxruntime = require("onnxruntime", "cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _FATAL_ONLY
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as cause:  # its errors have no common class
            reason = " ".join(str(cause).split())
            raise PlainUnavailableError(
                f"ONNX Runtime refuses {path.name} as it stands: {reason}"
            ) from cause
        self._outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name, as an engine does."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))


def load_plain(family: LoadedFamily) -> Mapping[str, tuple[Run, PlainCalls]]:
    """Returns plain sessions by configuration, that answer as its engine does.

    With each comes what is known of it before it is timed.

    Raises:
        PlainUnavailableError: ONNX Runtime refuses one, or it would be of several graphs.
        NumericsError: One answers otherwise than our engine.
    """
    subject, manifest = family.subject, family.subject.bundle.manifest
    case, found = subject.cases[0], {}
    for name, ours in family.runs().items():
        stage, *others = subject.family.routes[name]
        if others:
            raise PlainUnavailableError(
                f"configuration {name!r} runs several graphs, which no plain session does."
            )
        file = subject.bundle.file(manifest.graph(stage.graph).file)
        start_ns = time.perf_counter_ns()
        session = PlainSession(file, subject.backend.threads)
        loaded_ns = time.perf_counter_ns()
        outputs = session.run(case)
        end_ns = time.perf_counter_ns()
        error = difference([outputs], [ours(case)]).relative_error
        # Each of the two may be that far from the reference, to either side.
        tolerance = 2 * manifest.verification(manifest.configuration(name)).tolerance
        if not error <= tolerance:  # NaN must be refused
            raise NumericsError(
                f"baseline 'plain', configuration {name!r}: its outputs differ from the"
                f" engine's by {error:.3g} of their range, more than {tolerance:.3g}, twice"
                " the tolerance that the bundle was verified with. Times of different answers"
                " are not compared. Please report it, or leave it out of --baseline."
            )
        load_ms, first_call_ms = (loaded_ns - start_ns) / 1e6, (end_ns - loaded_ns) / 1e6
        found[name] = session.run, PlainCalls(load_ms, first_call_ms, error, None, None)
    return found
