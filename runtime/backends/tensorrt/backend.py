"""TensorRT: an engine per graph, all on one stream, one workspace, one set of buffers.

As NVIDIA advises for engines that take turns: contexts with ``USER_MANAGED`` memory over a
workspace as large as the largest needs, and a captured CUDA graph per engine, so that a
switch is the launch of another graph. Nothing that a graph has seen is ever moved: buffers
and workspace are allocated first and freed last. A call holds the stream until it is done.

Weights are one file on disk and in host memory; on the device every loaded engine has a copy
of its own, since TensorRT lays them out anew for each.
"""

from __future__ import annotations

import logging
import mmap
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from ...bundle.onnx_graph import check_locations
from ...clock import SystemClock
from ...errors import (
    ChoiceError,
    EngineError,
    IntegrityError,
    SkipcError,
    choices_text,
    reason_of,
)
from .. import Sharing, comes_from
from ..cuda import open_cuda
from ..host import check_fits
from ..phases import LoadTimes
from .buffers import Buffers, Memory, Shapes
from .capture import capture
from .engine import TensorRTEngine
from .library import current_host, open_library, stale
from .refit import refit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ...bundle.engines import EngineEntry, EngineSet
    from ...bundle.folder import Bundle
    from .. import Arrays, Backend
    from ..cuda import Cuda
    from .library import Library

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine's file and what it needs.

    A stripped engine is refitted with the weights that the ``graph``'s file names, from the
    ``store``. ``device_bytes`` are what the loaded engine takes, without the workspace: that
    is the scratch memory that it needs while it runs, 0 where it was built without the GPU to
    ask.
    """

    file: Path
    graph: Path
    store: Path
    shapes: Shapes
    device_bytes: int
    workspace_bytes: int


def open_backend(
    bundle: Bundle,
    engines: EngineSet,
    threads: int | None,
    device_bytes: int | None,
    quick: bool = False,
) -> Backend:
    """Returns the backend that runs ``engines`` on this machine's GPU.

    Raises:
        BackendUnavailableError: TensorRT or a CUDA library is missing, or there is no GPU.
        StaleEngineError: The engines were built for another TensorRT or GPU.
        ChoiceError: A thread count was asked for, or a quick start.
    """
    if quick:
        raise ChoiceError(
            f"quick=True: engines of target {engines.target!r} are loaded as they are run."
            " Leave it out."
        )
    if threads is not None:
        raise ChoiceError(
            f"threads={threads}: engines of target {engines.target!r} run on the GPU."
            " Leave it out."
        )
    library, cuda = open_library(engines.backend), open_cuda()
    check_fits(bundle, engines, stale(engines.host, current_host(library, cuda)))
    folder, manifest = bundle.engine_dir(engines.target), bundle.manifest
    graphs = {graph.name: graph for graph in manifest.graphs}
    store = bundle.file(manifest.weights_file)
    plans = {
        entry.graph: Plan(
            file=folder / entry.file,
            graph=_weights_by(bundle, folder, entry),
            store=store,
            shapes=Shapes(
                graphs[entry.graph].inputs, graphs[entry.graph].outputs, manifest.dimensions
            ),
            # Built ahead, nobody saw it on a device: what it holds has to lie there at least.
            device_bytes=entry.device_bytes or (folder / entry.file).stat().st_size,
            workspace_bytes=entry.workspace_bytes,
        )
        for entry in engines.engines
    }
    return TensorRT(library, cuda, plans)


def _weights_by(bundle: Bundle, folder: Path, entry: EngineEntry) -> Path:
    """Returns the ONNX file that names an engine's weights, in the bundle's store alone."""
    if not entry.piece_file:
        return bundle.graph_file(bundle.manifest.graph(entry.graph))
    file, store = folder / entry.piece_file, bundle.file(bundle.manifest.weights_file)
    check_locations(file, store.name, "Build the engines again with `skipc finish`.")
    return file


class TensorRT:
    """The engines of one family; satisfies ``Backend``.

    ``workspace_bytes`` is the scratch memory that the largest of them needs.

    Raises:
        DeviceMemoryError: There is no room for workspace and buffers.
    """

    threads = 1

    def __init__(self, library: Library, cuda: Cuda, plans: Mapping[str, Plan]) -> None:
        self.name = library.backend
        self._library = library
        self._cuda = cuda
        self._plans = dict(plans)
        self._runtime = library.module.Runtime(library.logger)
        with cuda.current():
            self.workspace_bytes = max(
                plan.workspace_bytes or self._deserialized(name).device_memory_size_v2
                for name, plan in plans.items()
            )
            shapes = [plan.shapes for plan in plans.values()]
            self._memory = Memory(cuda, shapes, self.workspace_bytes)
        self._running = Lock()
        self._ungraphed: dict[str, str] = {}
        self._load_times: dict[str, LoadTimes] = {}

    def load(self, graph: str) -> TensorRTEngine:
        """Loads one graph's engine; may happen while another one runs.

        Raises:
            DeviceMemoryError: The device is full.
            EngineError: There is no such engine, or TensorRT refused it.
        """
        if graph not in self._plans:
            raise EngineError(
                f"no engine for graph {graph!r}. {choices_text(graph, self._plans)}"
            )
        plan = self._plans[graph]
        try:
            with self._cuda.current():
                return self._loaded(graph, plan)
        except SkipcError:
            raise
        except Exception as cause:
            if not comes_from(cause, "pathlib", self._library.module.__name__):
                raise
            raise EngineError(
                f"graph {graph!r}: {plan.file} cannot be loaded: {reason_of(cause)}"
            ) from cause

    def sharing(self) -> Sharing:
        """Returns what the engines loaded so far share."""
        why = "; ".join(f"{name}: {reason}" for name, reason in self._ungraphed.items())
        return Sharing(
            weights="one file on disk and in host memory; on the device a copy per engine",
            arena=f"one workspace of {self.workspace_bytes} bytes and one set of buffers",
            threads=f"one stream; without a CUDA graph: {why}" if why else "one stream",
        )

    def upload(self, inputs: Arrays) -> dict[str, Any]:
        """Returns copies of ``inputs`` on the device, freed with the backend."""
        shapes = next(
            plan.shapes
            for plan in self._plans.values()
            if inputs.keys() == {spec.name for spec in plan.shapes.inputs}
        )
        with self._running, self._cuda.current():
            return Buffers(self._memory, shapes).upload(inputs)

    def load_times(self, graph: str) -> LoadTimes:
        """Returns what the last load of a graph spent its time on."""
        return self._load_times[graph]

    def device_free_bytes(self) -> int:
        """Returns the device memory that is free, whoever took the rest."""
        with self._cuda.current():
            return self._cuda.free_bytes()

    def close(self) -> None:
        """Frees buffers and workspace."""
        with self._cuda.current():
            self._memory.close()

    def _loaded(self, name: str, plan: Plan) -> TensorRTEngine:
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
        if needed > self.workspace_bytes:
            raise IntegrityError(
                f"graph {name!r}: {plan.file} needs a workspace of {needed} bytes, more than"
                f" the {self.workspace_bytes} listed. Build the engines again with `skipc"
                " finish`."
            )
        buffers = Buffers(self._memory, plan.shapes)
        buffers.check(self._library.module, name, engine)
        context = self._context(name, engine)
        # What follows runs on the shared stream and workspace.
        with self._running, buffers.drained_on_error(name):
            captured = capture(name, context, buffers)
        if captured.graph is None:
            _LOG.warning("graph %r has no CUDA graph: %s", name, captured.reason)
            self._ungraphed[name] = captured.reason
        another = partial(self._context, name, engine)
        return TensorRTEngine(name, captured.graph, context, another, buffers, self._running)

    def _context(self, name: str, engine: Any) -> Any:
        strategy = self._library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._library.listening() as heard:
            context = engine.create_execution_context(strategy)
            if context is None:
                raise heard.error(
                    f"graph {name!r}: TensorRT cannot make a context: {heard.text()}."
                )
        context.set_device_memory(self._memory.workspace, self._memory.workspace_bytes)
        return context

    def _deserialized(self, name: str) -> Any:
        plan = self._plans[name]
        with self._library.listening() as heard, plan.file.open("rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                engine = self._runtime.deserialize_cuda_engine(data)
            if engine is None:
                raise heard.error(
                    f"graph {name!r}: TensorRT cannot load {plan.file}: {heard.text()}. Build"
                    " the engines again with `skipc finish`.",
                    short=self._cuda.free_bytes() < plan.device_bytes,
                )
        return engine


def phased_backend(backend: Backend) -> TensorRT | None:
    """Returns ``backend`` if its calls have phases."""
    return backend if isinstance(backend, TensorRT) else None
