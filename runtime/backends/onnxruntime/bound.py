"""One graph's session whose inputs and outputs lie on the device, in buffers that stay there.

Calls at the typical sizes use fixed buffers, whose addresses a captured graph may hold; other
sizes get memory for the call. All engines share the buffers, so one runs at a time. What a
later stage reads stays where it is: ``Kept``.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...bundle.tensors import sizes_of, typical_sizes
from ...errors import ClosedError, EngineError, InputError, IntegrityError, sentence
from .. import comes_from
from ..cuda.device_arrays import is_device_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from threading import RLock

    from numpy.typing import NDArray

    from ...bundle.manifest import GraphEntry
    from ...bundle.tensors import Dimension

BUILD_AGAIN = "Build the engines again with `skipc finish`."
_LIBRARY = "onnxruntime"
_GRAPH_OF = "gpu_graph_id"
_NOT_CAPTURED = "-1"


class Kept:
    """An output that stays on the device until somebody wants it on the host.

    It can be given to another engine of the same family, read as a NumPy array, and sliced.

    Args:
        value: ONNX Runtime's value.
        running: Held by whoever uses the device.
    """

    def __init__(self, value: Any, running: RLock) -> None:
        self._value: Any = value
        self._array: NDArray[Any] | None = None
        self._running = running
        self.shape = tuple(value.shape())

    def value(self) -> Any:
        """Returns where it lies on the device; None once it was moved to the host."""
        return self._value

    def on_host(self) -> NDArray[Any]:
        """Returns its copy on the host, made now if there is none."""
        with self._running:
            if self._array is None:
                self._array, self._value = on_host(self._value), None
            return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """As NumPy asks for it."""
        array = self.on_host()
        return array.astype(dtype) if dtype is not None and dtype != array.dtype else array

    def __getitem__(self, where: Any) -> Any:
        """Returns a part of it, on the host."""
        return self.on_host()[where]


@dataclass(slots=True)
class Buffer:
    """A fixed place on the device, and who still reads what lies there."""

    value: Any
    held: weakref.ref[Kept] | None = None

    def save(self) -> None:
        """Saves what somebody still wants to read before it is overwritten."""
        kept = self.held() if self.held is not None else None
        if kept is not None:
            kept.on_host()
        self.held = None

    def take(self, given: Any) -> None:
        """Puts an input here, unless it is what lies here already."""
        if isinstance(given, Kept) and given.value() is self.value:
            return
        self.save()
        self.value.update_inplace(np.ascontiguousarray(given))

    def keep(self, running: RLock) -> Kept:
        """Returns what lies here now, without a copy."""
        kept = Kept(self.value, running)
        self.held = weakref.ref(kept)
        return kept


class Buffers:
    """The fixed buffers of a family, by a tensor's name, type and shape."""

    def __init__(self, ort: Any, kind: str, running: RLock) -> None:
        self.ort, self.kind, self.running = ort, kind, running
        self._found: dict[tuple[str, str, tuple[int, ...]], Buffer] = {}

    def of_value(self, name: str, value: Any) -> Buffer:
        """Returns the buffer for what a session gave, which it becomes if there is none."""
        key = name, value.data_type(), tuple(value.shape())
        return self._found.setdefault(key, Buffer(value))

    def of_input(self, name: str, given: Any) -> Buffer:
        """Returns the buffer for an input like the given one."""
        if isinstance(given, Kept) and given.value() is not None:
            return self.of_value(name, given.value())
        return self.of_value(name, self.uploaded(np.asarray(given)))

    def uploaded(self, array: NDArray[Any]) -> Any:
        """Returns a copy of an array on the device."""
        value = self.ort.OrtValue.ortvalue_from_shape_and_type(
            [*array.shape], array.dtype, self.kind, 0
        )
        value.update_inplace(np.ascontiguousarray(array))
        return value

    def clear(self) -> None:
        """Forgets all of them: what is still read is saved."""
        with self.running:
            for buffer in self._found.values():
                buffer.save()
            self._found.clear()


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What calls at the typical sizes run: buffers, bound once."""

    shapes: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, Buffer]
    outputs: Mapping[str, Buffer]
    binding: Any
    options: Any


class BoundEngine:
    """One graph on the device; satisfies ``Engine``.

    Args:
        graph: What it takes and gives.
        dimensions: The family's free dimensions.
        session: ONNX Runtime's.
        buffers: Those of the family.
        staying: Outputs that only later stages read: they stay on the device.
        captures: Whether the session captures its work.
    """

    def __init__(
        self,
        graph: GraphEntry,
        dimensions: Sequence[Dimension],
        session: Any,
        buffers: Buffers,
        staying: frozenset[str],
        captures: bool,
    ) -> None:
        self._graph, self._typical = graph, typical_sizes(dimensions)
        self._session, self._buffers = session, buffers
        self._staying, self._captures = staying, captures
        self._outputs = tuple(output.name for output in session.get_outputs())
        self._fixed: _Fixed | None = None

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the outputs by name; new arrays, but for those that only a stage reads.

        Raises:
            InputError: An array lies on a GPU.
            EngineError: ONNX Runtime failed.
            ClosedError: The engine was closed.
        """
        with self._buffers.running:
            if self._session is None:
                raise ClosedError(f"graph {self._graph.name!r}: the engine is closed.")
            shapes = {name: tuple(value.shape) for name, value in inputs.items()}
            try:
                if self._fixed is not None and shapes == self._fixed.shapes:
                    return self._run_fixed(self._fixed, inputs)
                binding = self._run_once(inputs)
                values = dict(zip(self._outputs, binding.get_outputs(), strict=True))
                if self._fixed is None and self._is_typical(inputs):
                    self._fixed = self._bound(inputs, shapes, values)
                return self._given(values)
            except Exception as cause:
                if not comes_from(cause, _LIBRARY):
                    raise
                raise self._error(cause, inputs) from cause

    def close(self) -> None:
        """Frees the session; weights and buffers are the family's."""
        with self._buffers.running:
            self._session = self._fixed = None

    def _is_typical(self, inputs: Mapping[str, Any]) -> bool:
        sizes = sizes_of(inputs, self._graph.inputs)
        return all(self._typical.get(name, size) == size for name, size in sizes.items())

    def _run_fixed(self, fixed: _Fixed, inputs: Mapping[str, Any]) -> dict[str, Any]:
        for name, buffer in fixed.inputs.items():
            buffer.take(inputs[name])
        for buffer in fixed.outputs.values():
            buffer.save()
        self._session.run_with_iobinding(fixed.binding, fixed.options)
        running = self._buffers.running
        return {
            name: buffer.keep(running) if name in self._staying else on_host(buffer.value)
            for name, buffer in fixed.outputs.items()
        }

    def _run_once(self, inputs: Mapping[str, Any]) -> Any:
        """Runs in memory of the call's own; returns what it is bound to."""
        binding, kind = self._session.io_binding(), self._buffers.kind
        for name, given in inputs.items():
            value = given.value() if isinstance(given, Kept) else None
            if value is None:
                value = self._buffers.uploaded(np.asarray(given))
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, kind, 0)
        self._session.run_with_iobinding(binding, self._run_options(captured=False))
        return binding

    def _bound(
        self,
        inputs: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        values: Mapping[str, Any],
    ) -> _Fixed:
        """Returns what later calls like this one run."""
        buffers = self._buffers
        taken = {name: buffers.of_input(name, given) for name, given in inputs.items()}
        # What this call gave is the caller's: the buffers are others.
        given = {
            name: buffers.of_value(name, buffers.uploaded(value.numpy()))
            for name, value in values.items()
        }
        binding = self._session.io_binding()
        for name, buffer in taken.items():
            binding.bind_ortvalue_input(name, buffer.value)
        for name, buffer in given.items():
            binding.bind_ortvalue_output(name, buffer.value)
        options = self._run_options(captured=self._captures)
        return _Fixed(shapes, taken, given, binding, options)

    def _run_options(self, captured: bool) -> Any:
        options = self._buffers.ort.RunOptions()
        options.log_severity_level = 4  # errors come as exceptions
        if self._captures and not captured:
            options.add_run_config_entry(_GRAPH_OF, _NOT_CAPTURED)
        return options

    def _given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a call in memory of its own gave.

        Of a session that captures nothing stays in its arena: a captured graph writes to
        whatever was free when it was captured.
        """
        staying = frozenset[str]() if self._captures else self._staying
        keep = partial(Kept, running=self._buffers.running)
        return {
            name: keep(value) if name in staying else on_host(value)
            for name, value in values.items()
        }

    def _error(self, cause: Exception, inputs: Mapping[str, Any]) -> Exception:
        for name, given in inputs.items():
            if is_device_array(given):
                return InputError(
                    f"input {name!r} lies on the GPU, and engines of ONNX Runtime take NumPy"
                    " arrays: .cpu().numpy() of a tensor. Engines of the target 'tensorrt'"
                    " take it as it is."
                )
        return EngineError(f"graph {self._graph.name!r}: ONNX Runtime failed: {line(cause)}")


def on_host(value: Any) -> NDArray[Any]:
    """Returns a copy of ONNX Runtime's value, which gives a view of what lies on the host."""
    array: NDArray[Any] = value.numpy()
    return array if array.flags.owndata else array.copy()


@contextmanager
def loading(graph: str, path: Path) -> Iterator[None]:
    """Tells what keeps a graph from being loaded as an ``EngineError``."""
    try:
        yield
    except IntegrityError as cause:
        raise EngineError(f"graph {graph!r}: {cause}") from cause
    except Exception as cause:
        if not comes_from(cause, _LIBRARY):
            raise
        raise EngineError(
            f"graph {graph!r}: ONNX Runtime cannot load {path}: {sentence(line(cause))}"
            f" {BUILD_AGAIN}"
        ) from cause


def line(error: Exception) -> str:
    """Returns ONNX Runtime's message, which may span lines and end in one, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
