"""The memory that all engines of a family share: workspace, inputs, outputs, one stream.

One engine runs at a time, so one buffer for each tensor is enough, on the device and pinned on
the host, for all graphs that have it. Their addresses are in the captured graphs: they are
allocated once, for the largest sizes, and freed last.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...bundle.tensors import sizes_of, typical_sizes
from ...errors import EngineError, InputError, reason_of
from ..cuda import LEGACY_STREAM, CudaError, DeviceMemoryError
from ..cuda.device_arrays import DeviceArray
from ..phases import Wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ...bundle.tensors import Dimension, Sizes, TensorSpec
    from .. import Arrays
    from ..cuda import Cuda

_EVENTS = 4  # around copy in, computation, copy out, one after the other
_LEAST_BYTES = 256  # TensorRT wants an aligned address, also of nothing


@dataclass(frozen=True, slots=True)
class Shapes:
    """A graph's inputs and outputs, and the sizes that free dimensions may have."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    dimensions: Sequence[Dimension] = ()

    @property
    def largest(self) -> Sizes:
        """The largest sizes."""
        return {each.name: each.maximum for each in self.dimensions}


def size_bytes_of(spec: TensorSpec, sizes: Sizes) -> int:
    """Returns the bytes of ``spec`` at some sizes."""
    return int(np.prod(spec.shape_at(sizes), dtype=np.int64)) * np.dtype(spec.dtype).itemsize


class Memory:
    """What all graphs share: one stream, a workspace, memory for each tensor by its name.

    ``device`` has a tensor's place on the device, ``host`` its pinned place on the host.

    Raises:
        DeviceMemoryError: There is no room; nothing stays allocated.
    """

    def __init__(self, cuda: Cuda, graphs: Iterable[Shapes], workspace_bytes: int) -> None:
        self.cuda = cuda
        self.workspace_bytes = max(workspace_bytes, _LEAST_BYTES)
        self.device: dict[str, int] = {}
        self.host: dict[str, NDArray[np.uint8]] = {}
        self._size_bytes: dict[str, int] = {}
        for shapes in graphs:
            for spec in (*shapes.inputs, *shapes.outputs):
                size_bytes = size_bytes_of(spec, shapes.largest)
                least_bytes = self._size_bytes.get(spec.name, _LEAST_BYTES)
                self._size_bytes[spec.name] = max(size_bytes, least_bytes)
        with ExitStack() as stack:
            self.stream = cuda.new_stream()
            stack.callback(cuda.free_stream, self.stream)
            self.workspace = cuda.malloc(self.workspace_bytes)
            stack.callback(cuda.free, self.workspace)
            for name, size_bytes in self._size_bytes.items():
                self.device[name] = cuda.malloc(size_bytes)
                stack.callback(cuda.free, self.device[name])
                self.host[name] = cuda.malloc_host(size_bytes)
                stack.callback(cuda.free_host, self.host[name])
            self._allocated = stack.pop_all()
        self._results: dict[str, int] = {}
        self._events: dict[Wait, tuple[Any, ...]] = {}

    def close(self) -> None:
        """Frees everything."""
        self._allocated.close()

    def malloc(self, size_bytes: int) -> int:
        """Returns new memory on the device, freed with everything else."""
        address = self.cuda.malloc(max(size_bytes, _LEAST_BYTES))
        self._allocated.callback(self.cuda.free, address)
        return address

    def result(self, name: str) -> int:
        """Returns memory for an output that stays on the device, which no graph writes to."""
        if name not in self._results:
            self._results[name] = self.malloc(self._size_bytes[name])
        return self._results[name]

    def events(self, how: Wait) -> tuple[Any, ...]:
        """Returns a measured call's four events for a way to wait, made when first wanted."""
        if how not in self._events:
            made = []
            for _ in range(_EVENTS):
                made.append(self.cuda.new_event(blocking=how is Wait.BLOCK))
                self._allocated.callback(self.cuda.free_event, made[-1])
            self._events[how] = tuple(made)
        return self._events[how]


class Buffers:
    """A graph's inputs and outputs in the shared memory.

    Every method is called with the stream to oneself. CUDA graphs are captured for the
    sizes ``typical``.
    """

    def __init__(self, memory: Memory, shapes: Shapes) -> None:
        self.cuda, self.stream = memory.cuda, memory.stream
        self.typical = typical_sizes(shapes.dimensions)
        self.memory, self._device, self._host = memory, memory.device, memory.host
        self._inputs = {spec.name: spec for spec in shapes.inputs}
        self._outputs = {spec.name: spec for spec in shapes.outputs}

    @contextmanager
    def drained_on_error(self, graph: str) -> Iterator[None]:
        """Leaves nothing enqueued where the block fails half-way.

        Raises:
            DeviceMemoryError: As the block did.
            EngineError: A CUDA call failed, named with the graph.
        """
        try:
            yield
        except BaseException as cause:
            with suppress(CudaError):  # the first error is the one to tell
                self.cuda.synchronize(self.stream)
            if isinstance(cause, CudaError) and not isinstance(cause, DeviceMemoryError):
                raise EngineError(
                    f"graph {graph!r}: the GPU failed: {reason_of(cause)}"
                ) from cause
            raise

    def check(self, trt: Any, graph: str, engine: Any) -> None:
        """Checks that an engine has the manifest's inputs and outputs.

        Raises:
            EngineError: A name, a direction, a type, a shape or a place differs.
        """
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        found = {
            name: (
                engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                _numpy_name(trt, engine.get_tensor_dtype(name)),
                tuple(engine.get_tensor_shape(name)),
                engine.get_tensor_location(name) == trt.TensorLocation.DEVICE,
            )
            for name in names
        }
        both = ((True, self._inputs), (False, self._outputs))
        expected = {
            name: (is_input, spec.dtype, spec.shape_at({}), True)
            for is_input, specs in both
            for name, spec in specs.items()
        }
        if found != expected:
            wrong = next(n for n in {**expected, **found} if found.get(n) != expected.get(n))
            raise EngineError(
                f"graph {graph!r}: the engine's tensor {wrong!r} is not as the manifest says."
                " The file belongs to another network; build the engines again with `skipc"
                " finish`."
            )

    def write(self, inputs: Arrays) -> Sizes:
        """Copies the inputs into the pinned buffers and returns their sizes."""
        for name, array in inputs.items():
            memory = self._host[name][: array.nbytes]
            np.copyto(memory.view(array.dtype).reshape(array.shape), array)
        return {**self.typical, **sizes_of(inputs, self._inputs.values())}

    def fill_sample(self, case: int) -> None:
        """Fills the inputs at the typical sizes: zeros (0), or values that vary (1)."""
        sample = {}
        for spec in self._inputs.values():
            shape = spec.shape_at(self.typical)
            count = int(np.prod(shape, dtype=np.int64))
            values = np.arange(count) % 2 * case if spec.dtype[0] in "iub" else (
                np.linspace(-1, 1, count) * case
            )  # fmt: skip
            sample[spec.name] = values.reshape(shape).astype(spec.dtype)
        self.write(sample)

    def enqueue(self, graph: str, context: Any, sizes: Sizes) -> None:
        """Enqueues copy in, the engine, copy out, at some sizes."""
        self.copy_in(sizes)
        self.compute(graph, context, sizes)
        self.copy_out(sizes)

    def copy_in(self, sizes: Sizes) -> None:
        """Enqueues the copies of the inputs to the device."""
        for name, spec in self._inputs.items():
            memory = self._host[name][: size_bytes_of(spec, sizes)]
            self.cuda.copy_to_device(self._device[name], memory, self.stream)

    def compute(
        self,
        graph: str,
        context: Any,
        sizes: Sizes,
        places: Mapping[str, int] | None = None,
    ) -> None:
        """Enqueues the engine alone, between the buffers on the device, or other places."""
        given = self._device if places is None else places
        taken = all(
            context.set_input_shape(name, spec.shape_at(sizes))
            for name, spec in self._inputs.items()
        ) and all(context.set_tensor_address(name, place) for name, place in given.items())
        if not taken or not context.execute_async_v3(self.stream):
            raise EngineError(
                f"graph {graph!r}: TensorRT refused to run at {dict(sizes)}. Build the engines"
                " again with `skipc finish`."
            )

    def copy_out(self, sizes: Sizes) -> None:
        """Enqueues the copies of the outputs to the host."""
        for name, spec in self._outputs.items():
            memory = self._host[name][: size_bytes_of(spec, sizes)]
            self.cuda.copy_to_host(memory, self._device[name], self.stream)

    def upload(self, inputs: Arrays) -> dict[str, DeviceArray]:
        """Returns copies of the inputs on the device, freed with everything else.

        Where that fails, nothing stays enqueued.
        """
        cuda, stream = self.cuda, self.stream
        found = {}
        try:
            self.copy_in(self.write(inputs))
            for name, array in inputs.items():
                address = self.memory.malloc(array.nbytes)
                cuda.copy_on_device(address, self._device[name], array.nbytes, stream)
                found[name] = DeviceArray(address, array.shape, array.dtype, owner=self.memory)
        finally:
            cuda.synchronize(stream)
        return found

    def outputs(self, sizes: Sizes) -> dict[str, NDArray[Any]]:
        """Returns copies of the outputs in the pinned buffers."""
        found = {}
        for name, spec in self._outputs.items():
            memory = self._host[name][: size_bytes_of(spec, sizes)]
            found[name] = memory.copy().view(spec.dtype).reshape(spec.shape_at(sizes))
        return found

    def check_on_device(
        self, taken: Mapping[str, DeviceArray], inputs: Mapping[str, Any]
    ) -> Sizes:
        """Returns the sizes of inputs on the GPU; ``InputError`` if some lie on the host."""
        on_host = [name for name in inputs if name not in taken]
        if on_host:
            raise InputError(
                f"input {on_host[0]!r} lies on the host and another on the GPU. Give all of"
                " them in one place."
            )
        return {**self.typical, **sizes_of(taken, self._inputs.values())}

    def enqueue_on_device(
        self, graph: str, context: Any, sizes: Sizes, taken: Mapping[str, DeviceArray]
    ) -> dict[str, DeviceArray]:
        """Enqueues the engine on arrays where they lie; returns the output buffers."""
        # The caller may have enqueued work on the default stream that fills the inputs, or
        # that still reads the outputs of the call before.
        self.cuda.wait_for(self.stream, LEGACY_STREAM)
        results = {name: self.memory.result(name) for name in self._outputs}
        places = dict(results)
        for name, array in taken.items():
            if array.stream not in (None, LEGACY_STREAM):
                self.cuda.wait_for(self.stream, array.stream)
            places[name] = self._aligned(name, array)
        self.compute(graph, context, sizes, places)
        return {
            name: DeviceArray(
                results[name], spec.shape_at(sizes), np.dtype(spec.dtype), owner=self.memory
            )
            for name, spec in self._outputs.items()
        }

    def _aligned(self, name: str, array: DeviceArray) -> int:
        """Returns the array's address, or a copy's: TensorRT takes aligned ones only."""
        if array.address % _LEAST_BYTES == 0:
            return array.address
        self.cuda.copy_on_device(self._device[name], array.address, array.nbytes, self.stream)
        return self._device[name]


def _numpy_name(trt: Any, dtype: Any) -> str:
    try:
        return str(np.dtype(trt.nptype(dtype)).name)
    except TypeError:
        return str(dtype)  # bfloat16 and the like have no counterpart
