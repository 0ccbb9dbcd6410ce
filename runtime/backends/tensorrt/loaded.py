"""What of an engine is on the device: the engine, its contexts, its CUDA graphs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ...errors import ClosedError
from .capture import Captured, capture_compute

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cuda import Graph
    from .buffers import Buffers

_LOG = logging.getLogger(__name__)


class LoadedEngine:
    """An engine on the device.

    A context whose work was captured must not be changed afterwards, so what the CUDA graph
    cannot do (another batch, arrays on the GPU) runs in a second one, made when needed.

    Args:
        name: The graph's name in the bundle.
        engine: The engine.
        captured: Its CUDA graph, if it has one.
        context: The context that it was captured from, or was tried to be.
        another: Makes a second context over the same workspace.
        buffers: Inputs and outputs.
    """

    def __init__(
        self,
        name: str,
        engine: Any,
        captured: Graph | None,
        context: Any,
        another: Callable[[], Any],
        buffers: Buffers,
    ) -> None:
        self.name = name
        self.buffers = buffers
        self.captured = captured
        self._captured_from = context if captured is not None else None
        self._plain: Any = None
        self._another: Callable[[], Any] | None = another
        self._engine = engine
        self._computing: tuple[Captured, Any] | None = None

    @property
    def context(self) -> Any:
        """The context for calls without the CUDA graph.

        Raises:
            ClosedError: The engine was closed.
        """
        if self._plain is None:
            self._plain = self._new_context()
        return self._plain

    def captured_computing(self) -> Graph | None:
        """Returns the graph of computing alone, captured when first wanted, if there is one.

        The caller holds the stream; the inputs in the buffers are overwritten.

        Raises:
            DeviceMemoryError: The device is full.
            BackendError: The engine does not run at all.
        """
        if self._computing is None:
            context = self._new_context()
            captured = capture_compute(self.name, context, self.buffers)
            if captured.graph is None:
                text = "graph %r is measured without a CUDA graph: %s"
                _LOG.warning(text, self.name, captured.reason)
                context = None
            self._computing = captured, context
        return self._computing[0].graph

    def check_open(self) -> None:
        """Raises ``ClosedError`` if the engine was closed."""
        if self._another is None:
            raise ClosedError(f"graph {self.name!r}: the engine is closed.")

    def close(self) -> None:
        """Frees graphs, contexts, engine in this order; TensorRT frees what nobody holds."""
        computing = None if self._computing is None else self._computing[0].graph
        for graph in (self.captured, computing):
            if graph is not None:
                graph.close()
        self._computing = self.captured = None
        self._captured_from = self._plain = self._another = self._engine = None

    def _new_context(self) -> Any:
        self.check_open()
        assert self._another is not None
        return self._another()
