"""One graph's TensorRT engine, and how it runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..cuda.device_arrays import DeviceArray, borrowed, is_device_array
from ..phases import OWN_WAY, Phases, Way
from .phases import call_in_phases, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from threading import Lock

    from .. import Arrays
    from .loaded import LoadedEngine


class TensorRTEngine:
    """One graph on the device; satisfies ``Engine`` and ``PhasedEngine``.

    Args:
        loaded: What is on the device.
        running: Held by whoever uses the stream.
        way: How ``run`` makes its calls.
    """

    def __init__(self, loaded: LoadedEngine, running: Lock, way: Way = OWN_WAY) -> None:
        self._loaded = loaded
        self._running = running
        self._way = way

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
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
            if any(is_device_array(value) for value in inputs.values()):
                return dict(self._on_device(inputs))
            if not self._way.transfers:
                raise InputError(
                    "an input lies on the host, but calls without transfers were asked for."
                    " Upload the inputs first."
                )
            return self._from_host(inputs)

    def made(self, way: Way) -> TensorRTEngine:
        """Returns the same engine, whose ``run`` makes its calls another way."""
        return TensorRTEngine(self._loaded, self._running, way)

    def run_in_phases(self, inputs: Arrays, way: Way, now_ns: Callable[[], int]) -> Phases:
        """Makes a call and returns its phases; see ``PhasedEngine``.

        Raises:
            EngineError: TensorRT or CUDA failed. Nothing stays enqueued.
        """
        with self._stream():
            return call_in_phases(self._loaded, inputs, way, now_ns)

    def close(self) -> None:
        """Frees the engine; what ``made`` returned is closed with it."""
        self._loaded.close()

    @contextmanager
    def _stream(self) -> Iterator[None]:
        """Has the stream to itself; nothing stays enqueued where the block fails."""
        loaded, buffers = self._loaded, self._loaded.buffers
        with self._running:
            loaded.check_open()
            with buffers.cuda.current(), buffers.drained_on_error(loaded.name):
                yield

    def _from_host(self, inputs: Arrays) -> dict[str, Any]:
        loaded, buffers = self._loaded, self._loaded.buffers
        batch = buffers.write(inputs)
        if self._way.graph and loaded.captured is not None and batch == buffers.typical:
            loaded.captured.launch(buffers.stream)
        else:
            buffers.enqueue(loaded.name, loaded.context, batch)
        wait(buffers, self._way.wait)
        return buffers.outputs(batch)

    def _on_device(self, inputs: Mapping[str, Any]) -> dict[str, DeviceArray]:
        loaded, buffers = self._loaded, self._loaded.buffers
        taken = {
            name: borrowed(name, value, buffers.stream)
            for name, value in inputs.items()
            if is_device_array(value)
        }
        batch = buffers.check_on_device(taken, inputs)
        found = buffers.enqueue_on_device(loaded.name, loaded.context, batch, taken)
        wait(buffers, self._way.wait)
        return found
