"""One configuration's TensorRT engine: what of it is on the device, and how it runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..cuda.device_arrays import DeviceArray, borrowed, is_device_array
from ..phases import OWN_WAY, Phases, Way
from .capture import Captured, capture_compute
from .phases import call_in_phases, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from threading import Lock

    from ...load.residency import Residency
    from .. import Arrays
    from ..cuda import Graph
    from .buffers import Buffers

_LOG = logging.getLogger(__name__)


class LoadedEngine:
    """An engine on the device.

    A context whose work was captured must not be changed afterwards, so what the graph
    cannot do (another batch, arrays on the GPU) runs in a second one, made when needed.

    Args:
        engine: The engine.
        graph: Its graph, if it has one.
        context: The context that the graph was captured from, or was tried to be.
        another: Makes a second context over the same workspace.
    """

    def __init__(
        self,
        engine: Any,
        graph: Graph | None,
        context: Any,
        another: Callable[[], Any],
    ) -> None:
        self.graph = graph
        self._captured = context if graph is not None else None
        self._plain: Any = None
        self._another: Callable[[], Any] | None = another
        self._engine = engine
        self._computing: tuple[Captured, Any] | None = None

    @property
    def context(self) -> Any:
        """The context for calls without the graph."""
        if self._plain is None and self._another is not None:
            self._plain = self._another()
        return self._plain

    def compute_graph(self, configuration: str, buffers: Buffers) -> Graph | None:
        """Returns the graph of computing alone, captured when first wanted, if there is one.

        The caller holds the stream; the inputs in ``buffers`` are overwritten.

        Raises:
            DeviceMemoryError: The device is full.
            BackendError: The engine does not run at all.
        """
        if self._computing is None and self._another is not None:
            context = self._another()
            captured = capture_compute(configuration, context, buffers)
            if captured.graph is None:
                text = "configuration %r is measured without a CUDA graph: %s"
                _LOG.warning(text, configuration, captured.reason)
                context = None
            self._computing = captured, context
        return None if self._computing is None else self._computing[0].graph

    def close(self) -> None:
        """Frees graphs, contexts, engine in this order; TensorRT frees what nobody holds."""
        computing = None if self._computing is None else self._computing[0].graph
        for graph in (self.graph, computing):
            if graph is not None:
                graph.close()
        self._computing = None
        self.graph = self._captured = self._plain = self._another = self._engine = None


class TensorRTEngine:
    """One configuration; satisfies ``Engine`` and ``PhasedEngine``.

    Loaded again when it had to leave.
    """

    def __init__(
        self,
        configuration: str,
        residency: Residency[LoadedEngine],
        buffers: Buffers,
        running: Lock,
        way: Way = OWN_WAY,
    ) -> None:
        self.configuration = configuration
        self._way = way
        self._residency = residency
        self._buffers = buffers
        self._running = running

    def ready(self) -> bool:
        """Tells whether it is on the device."""
        return self._residency.ready(self.configuration)

    def prepare(self) -> frozenset[str]:
        """Begins to load it in the background; see ``Residency.prepare``."""
        return self._residency.prepare(self.configuration)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the outputs by name.

        NumPy arrays in give new NumPy arrays. If an input lies on the GPU, it is read where
        it lies, and the outputs stay on the GPU as ``DeviceArray``: the engine's own
        buffers, valid until its next call.

        Raises:
            InputError: An array on the GPU cannot be read as it lies.
            EngineError: TensorRT or CUDA failed.
        """
        with (
            self._residency.use(self.configuration) as loaded,
            self._running,
            self._buffers.cuda.current(),
            self._buffers.drained_on_error(self.configuration),
        ):
            if any(is_device_array(value) for value in inputs.values()):
                return dict(self._on_device(loaded, inputs))
            if not self._way.transfers:
                raise InputError(
                    "an input lies on the host, but calls without transfers were asked for."
                    " Upload the inputs first."
                )
            return self._from_host(loaded, inputs)

    def made(self, way: Way) -> TensorRTEngine:
        """Returns the same engine, whose ``run`` makes its calls another way."""
        return TensorRTEngine(
            self.configuration, self._residency, self._buffers, self._running, way
        )

    def run_in_phases(self, inputs: Arrays, way: Way, now_ns: Callable[[], int]) -> Phases:
        """Makes a call and returns its phases; see ``PhasedEngine``.

        Raises:
            EngineError: TensorRT or CUDA failed. Nothing stays enqueued.
        """
        name = self.configuration
        with (
            self._residency.use(name) as loaded,
            self._running,
            self._buffers.cuda.current(),
            self._buffers.drained_on_error(name),
        ):
            return call_in_phases(name, loaded, self._buffers, inputs, way, now_ns)

    def _from_host(self, loaded: LoadedEngine, inputs: Arrays) -> dict[str, Any]:
        buffers = self._buffers
        batch = buffers.write(inputs)
        if self._way.graph and loaded.graph is not None and batch == buffers.typical:
            loaded.graph.launch(buffers.stream)
        else:
            buffers.enqueue(self.configuration, loaded.context, batch)
        wait(buffers, self._way.wait)
        return buffers.outputs(batch)

    def _on_device(
        self, loaded: LoadedEngine, inputs: Mapping[str, Any]
    ) -> dict[str, DeviceArray]:
        buffers = self._buffers
        taken = {}
        for name, value in inputs.items():
            if is_device_array(value):
                taken[name] = borrowed(name, value, buffers.stream)
        batch = buffers.check_on_device(taken, inputs)
        found = buffers.enqueue_on_device(self.configuration, loaded.context, batch, taken)
        wait(buffers, self._way.wait)
        return found

    def close(self) -> None:
        """Does nothing: the backend frees all engines together."""
