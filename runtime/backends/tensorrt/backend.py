"""TensorRT: an engine per configuration, all on one stream, one workspace, one set of buffers.

As NVIDIA advises for engines that take turns: contexts with ``USER_MANAGED`` memory over a
workspace as large as the largest needs, and a captured CUDA graph per engine, so that a
switch is the launch of another graph. Nothing that a graph has seen is ever moved: buffers
and workspace are allocated first and freed last. A call holds the stream until it is done.

Weights are one file on disk and in host memory; on the device every loaded engine has a copy
of its own, since TensorRT lays them out anew for each. ``device_bytes`` bounds how many are
loaded at once.
"""

from __future__ import annotations

import logging
import mmap
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from ...clock import SystemClock
from ...errors import (
    ChoiceError,
    EngineError,
    IntegrityError,
    SkipcError,
    StaleEngineError,
    choices_text,
)
from ...load.residency import Residency
from .. import Sharing
from ..cuda import DeviceMemoryError, open_cuda
from ..phases import LoadTimes
from .buffers import Buffers, Shapes
from .capture import capture
from .engine import LoadedEngine, TensorRTEngine
from .errors import engine_error
from .host import current_host, stale
from .library import open_library
from .refit import refit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ...bundle.engines import EngineSet
    from ...bundle.folder import Bundle
    from ...load.residency import ResidencyCounts
    from .. import Arrays, Backend, Limits
    from ..cuda import Cuda
    from ..cuda.device_arrays import DeviceArray
    from .library import Library

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine's file and what it needs.

    Attributes:
        file: The serialised engine.
        graph: The subnet's graph, whose weights a stripped engine is refitted with.
        store: The weight store beside the graph.
        device_bytes: Device memory that the loaded engine takes, without the workspace.
        workspace_bytes: Scratch memory that it needs while it runs; 0 where it was built
            without the GPU to ask.
    """

    file: Path
    graph: Path
    store: Path
    device_bytes: int
    workspace_bytes: int


def open_backend(bundle: Bundle, engines: EngineSet, limits: Limits) -> Backend:
    """Returns the backend that runs ``engines`` on this machine's GPU.

    Raises:
        BackendUnavailableError: TensorRT or a CUDA library is missing, or there is no GPU.
        StaleEngineError: The engines were built for another TensorRT or GPU.
        ChoiceError: A thread count was asked for, or ``device_bytes`` is too small.
    """
    if limits.threads is not None:
        raise ChoiceError(
            f"threads={limits.threads}: engines of target {engines.target!r} run on the GPU."
            " Leave it out."
        )
    library, cuda = open_library(engines.backend), open_cuda()
    reason = stale(engines.host, current_host(library, cuda))
    if reason is not None:
        raise StaleEngineError(
            f"{bundle.path}: the engines of target {engines.target!r} were built for another"
            f" host: {reason}. Run `skipc finish {bundle.path} --target {engines.target}`"
            " on this one."
        )
    folder = bundle.engine_dir(engines.target)
    graphs = {entry.name: bundle.file(entry.graph) for entry in bundle.manifest.configurations}
    store = bundle.file(bundle.manifest.weights_file)
    plans = {
        entry.configuration: Plan(
            file=folder / entry.file,
            graph=graphs[entry.configuration],
            store=store,
            # Built ahead, nobody saw it on a device: what it holds has to lie there at least.
            device_bytes=entry.device_bytes or (folder / entry.file).stat().st_size,
            workspace_bytes=entry.workspace_bytes,
        )
        for entry in engines.engines
    }
    fastest = min(bundle.manifest.configurations, key=lambda entry: entry.macs).name
    manifest = bundle.manifest
    shapes = Shapes(manifest.inputs, manifest.outputs, manifest.batch)
    return TensorRT(library, cuda, plans, shapes, limits.device_bytes, fastest)


class TensorRT:
    """The engines of one family; satisfies ``Backend`` and ``PhasedBackend``.

    Args:
        library: TensorRT.
        cuda: CUDA on the device.
        plans: Each configuration's engine.
        shapes: The network's inputs and outputs.
        device_bytes: Most device memory that loaded engines may take together, besides
            workspace and buffers; None for no limit.
        keep: The configuration that leaves the device last.

    Raises:
        DeviceMemoryError: There is no room for workspace and buffers.
        ChoiceError: ``device_bytes`` is less than one engine takes.
    """

    threads = 1
    takes_device_arrays = True

    def __init__(
        self,
        library: Library,
        cuda: Cuda,
        plans: Mapping[str, Plan],
        shapes: Shapes,
        device_bytes: int | None = None,
        keep: str | None = None,
    ) -> None:
        self.name = library.backend
        self._library = library
        self._cuda = cuda
        self._plans = dict(plans)
        sizes = {name: plan.device_bytes for name, plan in plans.items()}
        self._residency: Residency[LoadedEngine] = Residency(
            self._load, sizes, device_bytes, keep, DeviceMemoryError
        )
        self._runtime = library.module.Runtime(library.logger)
        with cuda.current():
            self._workspace_bytes = max(
                plan.workspace_bytes or self._deserialized(name).device_memory_size_v2
                for name, plan in plans.items()
            )
            self._buffers = Buffers(cuda, shapes, self._workspace_bytes)
        self._running = Lock()
        self._ungraphed: dict[str, str] = {}
        self._load_times: dict[str, LoadTimes] = {}

    def load(self, configuration: str) -> TensorRTEngine:
        """Loads one configuration's engine.

        Raises:
            EngineError: There is no such engine, or TensorRT refused it.
        """
        if configuration not in self._plans:
            raise EngineError(
                f"no engine for configuration {configuration!r}."
                f" {choices_text(configuration, self._plans)}"
            )
        self._residency.load(configuration)
        return TensorRTEngine(configuration, self._residency, self._buffers, self._running)

    @property
    def workspace_bytes(self) -> int:
        """Scratch memory that the largest engine needs."""
        return self._workspace_bytes

    @property
    def counts(self) -> ResidencyCounts:
        """Loads, evictions and waits so far."""
        return self._residency.counts

    def sharing(self) -> Sharing:
        """Returns what the engines loaded so far share."""
        why = "; ".join(f"{name}: {reason}" for name, reason in self._ungraphed.items())
        return Sharing(
            weights="one file on disk and in host memory; on the device a copy per engine",
            arena=f"one workspace of {self._workspace_bytes} bytes and one set of buffers",
            threads=f"one stream; without a CUDA graph: {why}" if why else "one stream",
        )

    def upload(self, inputs: Arrays) -> dict[str, DeviceArray]:
        """Returns copies of ``inputs`` on the device, freed with the backend."""
        with self._running, self._cuda.current():
            return self._buffers.upload(inputs)

    def load_times(self, configuration: str) -> LoadTimes:
        """Returns what the last load of a loaded configuration spent its time on."""
        return self._load_times[configuration]

    def device_free_bytes(self) -> int:
        """Returns the device memory that is free, whoever took the rest."""
        with self._cuda.current():
            return self._cuda.free_bytes()

    def close(self) -> None:
        """Frees engines, buffers and workspace, after the calls in flight."""
        with self._cuda.current(), ExitStack() as stack:
            stack.callback(self._buffers.close)
            stack.callback(self._residency.close)

    def _load(self, name: str) -> LoadedEngine:
        """Returns an engine ready to run; may happen while another one runs."""
        plan = self._plans[name]
        try:
            with self._cuda.current():
                return self._loaded(name, plan)
        except SkipcError:
            raise
        except Exception as cause:  # of the file system or of the bindings
            raise EngineError(
                f"configuration {name!r}: {plan.file} cannot be loaded: {cause}"
            ) from cause

    def _loaded(self, name: str, plan: Plan) -> LoadedEngine:
        now_ns = SystemClock().now_ns
        start_ns = now_ns()
        engine = self._deserialized(name)
        read_ns = now_ns()
        stripped = engine.refittable  # no other engine of ours is built so
        if stripped:
            refit(self._library, engine, name, plan.graph, plan.store)
        self._load_times[name] = LoadTimes(
            (read_ns - start_ns) / 1e6, (now_ns() - read_ns) / 1e6 if stripped else None
        )
        needed = engine.device_memory_size_v2
        if needed > self._workspace_bytes:
            raise IntegrityError(
                f"configuration {name!r}: {plan.file} needs a workspace of {needed} bytes,"
                f" more than the {self._workspace_bytes} listed. Build the engines again"
                " with `skipc finish`."
            )
        self._buffers.check(self._library.module, name, engine)
        context = self._context(name, engine)
        # What follows runs on the shared stream and workspace.
        with self._running, self._buffers.drained_on_error(name):
            captured = capture(name, context, self._buffers)
        if captured.graph is None:
            _LOG.warning("configuration %r has no CUDA graph: %s", name, captured.reason)
            self._ungraphed[name] = captured.reason
        return LoadedEngine(
            engine, captured.graph, context, lambda: self._context(name, engine)
        )

    def _context(self, name: str, engine: Any) -> Any:
        strategy = self._library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._library.listening() as heard:
            context = engine.create_execution_context(strategy)
            if context is None:
                raise engine_error(
                    heard,
                    f"configuration {name!r}: TensorRT cannot make a context: {heard.text()}.",
                )
        context.set_device_memory(self._buffers.workspace, self._buffers.workspace_bytes)
        return context

    def _deserialized(self, name: str) -> Any:
        plan = self._plans[name]
        with self._library.listening() as heard, plan.file.open("rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                engine = self._runtime.deserialize_cuda_engine(data)
            if engine is None:
                raise engine_error(
                    heard,
                    f"configuration {name!r}: TensorRT cannot load {plan.file}:"
                    f" {heard.text()}. Build the engines again with `skipc finish`.",
                    short=self._cuda.free_bytes() < plan.device_bytes,
                )
        return engine
