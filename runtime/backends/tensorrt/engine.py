"""One graph's TensorRT engine: what of it is on the device, and how it runs.

A call is taken apart as ``trtexec`` does it (NVIDIA/TensorRT,
``samples/common/sampleInference.cpp``): events on the stream between copy in, computation and
copy out for what the device does, the host's clock for what enqueueing costs the host.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import ClosedError, InputError
from ..cuda.device_arrays import borrowed, is_device_array
from ..phases import OWN_WAY, Phases, Wait, Way
from .capture import Captured, capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from threading import Lock

    from .. import Arrays, Engine
    from ..cuda import Graph
    from .buffers import Buffers

_LOG = logging.getLogger(__name__)


class TensorRTEngine:
    """One graph on the device; satisfies ``Engine``.

    A context whose work was captured must not be changed afterwards, so what the CUDA graph
    cannot do (other sizes, arrays on the GPU) runs in a second one, made when needed.

    Args:
        name: The graph's name in the bundle.
        captured: Its CUDA graph, if it has one.
        context: The context that it was captured from, or was tried to be.
        another: Makes a second context over the same workspace; holds the engine.
        buffers: Inputs and outputs.
        running: Held by whoever uses the stream.
    """

    def __init__(
        self,
        name: str,
        captured: Graph | None,
        context: Any,
        another: Callable[[], Any],
        buffers: Buffers,
        running: Lock,
    ) -> None:
        self._name = name
        self._captured = captured
        self._captured_from = context if captured is not None else None
        self._plain: Any = None
        self._another: Callable[[], Any] | None = another
        self._buffers, self._running = buffers, running
        self._computing: tuple[Captured, Any] | None = None

    def run(self, inputs: Mapping[str, Any], way: Way = OWN_WAY) -> dict[str, Any]:
        """Returns the outputs by name.

        NumPy arrays in give new NumPy arrays. If an input lies on the GPU, it is read where
        it lies, and the outputs stay on the GPU as ``DeviceArray``: memory that all engines
        share, valid until the next call.

        Raises:
            InputError: An array on the GPU cannot be read as it lies.
            EngineError: TensorRT or CUDA failed.
            ClosedError: The engine was closed.
        """
        with self._stream():
            buffers = self._buffers
            if any(is_device_array(value) for value in inputs.values()):
                taken = {
                    name: borrowed(name, value, buffers.stream)
                    for name, value in inputs.items()
                    if is_device_array(value)
                }
                sizes = buffers.check_on_device(taken, inputs)
                context = self._context()
                found = buffers.enqueue_on_device(self._name, context, sizes, taken)
                self._wait(way.wait)
                return dict(found)
            if not way.transfers:
                raise InputError(
                    "an input lies on the host, but calls without transfers were asked for."
                    " Upload the inputs first."
                )
            sizes = buffers.write(inputs)
            if way.graph and self._captured is not None and sizes == buffers.typical:
                self._captured.launch(buffers.stream)
            else:
                buffers.enqueue(self._name, self._context(), sizes)
            self._wait(way.wait)
            return buffers.outputs(sizes)

    def made(self, way: Way) -> Engine:
        """Returns the same engine, whose ``run`` makes its calls another way.

        Without transfers, ``run`` wants device arrays (``TensorRT.upload``) and enqueues the
        engine on them: graphs hold addresses, so there is none for the caller's.
        """
        return _OtherWay(self, way)

    def run_in_phases(self, inputs: Arrays, way: Way, now_ns: Callable[[], int]) -> Phases:
        """Makes a call and returns its phases; the first one of an engine prepares for it.

        The inputs are on the host whatever the way: without transfers they are copied in
        before the call begins. ``now_ns`` is the host's clock.

        Raises:
            EngineError: TensorRT or CUDA failed. Nothing stays enqueued.
        """
        with self._stream():
            buffers = self._buffers
            cuda, stream = buffers.cuda, buffers.stream
            captured = self._computing_graph() if way.graph else None
            sizes = buffers.write(inputs)
            graph = captured if sizes == buffers.typical else None
            context = None if graph is not None else self._context()
            began, copied, computed, done = buffers.memory.events(way.wait)
            if not way.transfers:
                buffers.copy_in(sizes)
                cuda.synchronize(stream)
            start_ns = now_ns()
            cuda.record(began, stream)
            if way.transfers:
                buffers.copy_in(sizes)
                cuda.record(copied, stream)
            enqueue_start_ns = now_ns()
            if graph is not None:
                graph.launch(stream)
            else:
                buffers.compute(self._name, context, sizes)
            enqueue_end_ns = now_ns()
            cuda.record(computed, stream)
            if way.transfers:
                buffers.copy_out(sizes)
            cuda.record(done, stream)
            if way.wait is Wait.DRIVER:
                cuda.synchronize(stream)
            else:
                cuda.wait_event(done)
            return Phases(
                start_ns,
                enqueue_start_ns,
                enqueue_end_ns,
                h2d_ms=cuda.elapsed_ms(began, copied) if way.transfers else 0.0,
                compute_ms=cuda.elapsed_ms(copied if way.transfers else began, computed),
                d2h_ms=cuda.elapsed_ms(computed, done) if way.transfers else 0.0,
                graph=graph is not None,
            )

    def close(self) -> None:
        """Frees graphs, contexts, engine in this order; TensorRT frees what nobody holds."""
        computing = None if self._computing is None else self._computing[0].graph
        for graph in (self._captured, computing):
            if graph is not None:
                graph.close()
        self._computing = self._captured = None
        self._captured_from = self._plain = self._another = None

    @contextmanager
    def _stream(self) -> Iterator[None]:
        """Has the stream to itself; nothing stays enqueued where the block fails."""
        buffers = self._buffers
        with self._running:
            self._new_context()  # raises where it is closed
            with buffers.cuda.current(), buffers.drained_on_error(self._name):
                yield

    def _new_context(self) -> Callable[[], Any]:
        """Returns what makes a context, or raises ``ClosedError``."""
        if self._another is None:
            raise ClosedError(f"graph {self._name!r}: the engine is closed.")
        return self._another

    def _context(self) -> Any:
        """Returns the context for calls without the CUDA graph."""
        if self._plain is None:
            self._plain = self._new_context()()
        return self._plain

    def _wait(self, how: Wait) -> None:
        buffers = self._buffers
        if how is Wait.DRIVER:
            buffers.cuda.synchronize(buffers.stream)
            return
        # By an event: the device's scheduling flags belong to the whole process.
        done = buffers.memory.events(how)[-1]
        buffers.cuda.record(done, buffers.stream)
        buffers.cuda.wait_event(done)

    def _computing_graph(self) -> Graph | None:
        """Returns the graph of computing alone, captured when first wanted, if there is one.

        The inputs in the buffers are overwritten: a capture tries itself on its own.
        """
        if self._computing is None:
            context = self._new_context()()
            captured = capture(self._name, context, self._buffers, transfers=False)
            if captured.graph is None:
                text = "graph %r is measured without a CUDA graph: %s"
                _LOG.warning(text, self._name, captured.reason)
                context = None
            self._computing = captured, context
        return self._computing[0].graph


class _OtherWay:
    """An engine whose calls are made another way; it is closed with the engine."""

    def __init__(self, usual: TensorRTEngine, way: Way) -> None:
        self.run = partial(usual.run, way=way)
        self.close = usual.close
