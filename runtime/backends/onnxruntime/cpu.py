"""ONNX Runtime on the CPU: engines packed ahead, mapped from one store.

The graphs come optimised, so sessions are made with optimisation off; their weights are
mapped, so six sessions hold the pages of one. Scratch memory comes from one arena per
process. Threads: one pool per engine, whose threads sleep as soon as its call is over. One
pool for all would be ONNX Runtime's global one, and with that every other session of the
application fails to load. The application may make it (``set_global_thread_pool_sizes``):
then the engines use it.
"""

from __future__ import annotations

import importlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...bundle.gates import CAP
from ...bundle.onnx_graph import check_locations
from ...bundle.tensors import row_axes
from ...errors import (
    BackendUnavailableError,
    ChoiceError,
    ClosedError,
    EngineError,
    InputError,
    choices_text,
    install_text,
)
from ...options import checked_count
from .. import Sharing, comes_from
from ..cuda.device_arrays import is_device_array
from ..host import check_fits, default_threads, host_key, stale_reason
from .bound import BUILD_AGAIN, line, loading
from .packing import Held, PackedLater
from .process import USE_ENV_ALLOCATORS, new_session, shared_arena
from .rows import by_row, together

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from ...bundle.engines import EngineSet
    from ...bundle.folder import Bundle
    from .. import Arrays, Backend, Outputs

NAME = "onnxruntime-cpu"
_LIBRARY = "onnxruntime"
_FATAL_ONLY = 4  # errors come as exceptions
_NUMPY = {"tensor(bool)": "bool", "tensor(float)": "float32", "tensor(int64)": "int64"}
"""Types of settings, by ONNX Runtime's names."""


def open_backend(
    bundle: Bundle,
    engines: EngineSet,
    threads: int | None,
    device_bytes: int | None,
    quick: bool = False,
) -> Backend:
    """Returns the backend that runs ``engines``, built for this host.

    ``threads`` are those of a call, the calling one included; None for one per physical core
    that this process may run on. ``quick`` is as ``OnnxRuntimeCpu`` takes it.

    Raises:
        ChoiceError: ``device_bytes`` was given: there is no device memory to limit.
        BackendUnavailableError: onnxruntime is not installed.
        StaleEngineError: The engines were built for another CPU or ONNX Runtime.
    """
    if device_bytes is not None:
        raise ChoiceError(
            f"device_bytes={device_bytes}: engines of target {engines.target!r} run on"
            " the CPU, and their weights are mapped files. Leave it out."
        )
    check_fits(bundle, engines, stale_reason(engines.host, current_host()))
    folder = bundle.engine_dir(engines.target)
    files = {entry.graph: folder / entry.file for entry in engines.engines}
    settings = {entry.graph: entry.settings for entry in engines.engines}
    return OnnxRuntimeCpu(files, engines.packed_file, threads, settings, quick)


def current_host() -> dict[str, str]:
    """Returns the key of engines built or run here, see ``host_key``."""
    return host_key(_LIBRARY, str(_onnxruntime().__version__))


class OnnxRuntimeCpu:
    """The engines of one family on ONNX Runtime; satisfies ``Backend``.

    Args:
        files: Each graph's optimised file; graphs with one file are run by one session.
        packed_file: Name of the store beside them; empty if the graphs hold all themselves.
        threads: Threads per call; None for ``default_threads()``.
        settings: By graph, inputs of its session that make it run this graph.
        quick: Whether sessions are loaded unpacked, and replaced in the background.
    """

    name = NAME

    def __init__(
        self,
        files: Mapping[str, Path],
        packed_file: str,
        threads: int | None,
        settings: Mapping[str, Mapping[str, tuple[bool | float, ...]]] | None = None,
        quick: bool = False,
    ) -> None:
        self.threads = checked_count("threads", threads) or default_threads()
        self._ort = _onnxruntime()
        self._files = dict(files)
        self._packed_file = packed_file
        self._arena = shared_arena(self._ort)
        self._global_pool = False
        self._settings = settings or {}
        users = Counter(self._files.values())
        self._shared_files = {file for file, count in users.items() if count > 1}
        self._shared: dict[Path, Held] = {}
        self.packing = PackedLater(self._session) if quick else None

    def load(self, graph: str, profile: str = "") -> OnnxRuntimeEngine:
        """Loads one graph's engine; its weights are mapped, not read.

        A session that runs several graphs is loaded with the first of them, and stays.

        With a ``profile``, for tools, ONNX Runtime writes the times of all layers to that
        path, to which it adds a date and ``.json`` (see ``end_profiling``), and every call is
        slower.

        Raises:
            EngineError: There is no such engine, ONNX Runtime refused it, or it takes
                tensors from another file than the packed store.
        """
        if graph not in self._files:
            raise EngineError(
                f"no engine for graph {graph!r}. {choices_text(graph, self._files)}"
            )
        path = self._files[graph]
        held = None if profile else self._shared.get(path)
        if held is None:
            quick = self.packing is not None and not profile
            held = Held(self._session(graph, profile, unpacked=quick))
            if self.packing is not None and quick:
                held.answered = partial(self.packing.want, graph, held)
        if path in self._shared_files and not profile:
            self._shared[path] = held
        takes = {value.name: value for value in held.session.get_inputs()}
        settings = {}
        for name, values in self._settings.get(graph, {}).items():
            if name not in takes or takes[name].shape != [len(values)]:
                shape = takes[name].shape if name in takes else "no such input"
                raise EngineError(
                    f"graph {graph!r}: is run by setting {name!r} to {len(values)} values, but"
                    f" its engine takes {shape}. {BUILD_AGAIN}"
                )
            settings[name] = np.array(values, _NUMPY[takes[name].type])
        if CAP in settings:
            return RowByRow(graph, held, settings)
        return OnnxRuntimeEngine(graph, held, settings)

    def _session(self, graph: str, profile: str = "", unpacked: bool = False) -> Any:
        path, options = self._files[graph], self._options()
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = profile
        if unpacked:
            options.add_session_config_entry("session.disable_prepacking", "1")
        with loading(graph, path):
            check_locations(path, Path(self._packed_file).name, BUILD_AGAIN)
            session, self._global_pool = new_session(self._ort, str(path), options)
        return session

    def sharing(self) -> Sharing:
        """Returns what the engines loaded so far share."""
        if self._global_pool:
            threads = (
                "the pool that the application gave ONNX Runtime; its size counts, not the"
                f" {self.threads} asked for"
            )
        elif self.threads == 1:
            threads = "none: an engine runs on the thread that calls it"
        else:
            threads = f"one pool of {self.threads} per engine, asleep between its calls"
        return Sharing(
            weights=(
                f"one mapped file, {self._packed_file}"
                if self._packed_file
                else "none: all are small and lie in the graphs"
            ),
            arena=self._arena or "one arena per engine",
            threads=threads,
        )

    def close(self) -> None:
        """Frees the sessions that several graphs share; all else is the process's."""
        if self.packing is not None:
            self.packing.close()
        self._shared.clear()

    def _options(self) -> Any:
        options = self._ort.SessionOptions()
        # The graphs are optimised already; doing it again would undo the packed weights.
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # A plan for each shape seen keeps memory for each of them, and saves no time.
        options.enable_mem_pattern = False
        options.log_severity_level = _FATAL_ONLY
        # Whatever the file is called: only of ONNX is known what it takes from elsewhere.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # Threads that spin after a call take the cores from the next engine's first one.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if self._arena:
            options.add_session_config_entry(USE_ENV_ALLOCATORS, "1")
        return options


class OnnxRuntimeEngine:
    """One graph in an ONNX Runtime session; satisfies ``Engine``."""

    def __init__(self, graph: str, held: Held, settings: Arrays | None = None) -> None:
        self._graph = graph
        self._held = held
        self._settings = settings
        self._outputs = tuple(output.name for output in held.session.get_outputs())

    def run(self, inputs: Arrays) -> Outputs:
        """Returns the outputs by name, in new arrays that belong to the caller.

        Raises:
            InputError: An array lies on a GPU.
            EngineError: ONNX Runtime failed, or refused an array in the middle of the network.
            ClosedError: The engine was closed.
        """
        held = self._held
        session = held.session
        if session is None:
            raise ClosedError(f"graph {self._graph!r}: the engine is closed.")
        try:
            if self._settings:
                inputs = {**self._settings, **inputs}
            arrays = session.run(self._outputs, inputs)
        except Exception as cause:
            if not comes_from(cause, _LIBRARY):
                raise
            raise self._error(cause, inputs) from cause
        if held.answered is not None:
            answered, held.answered = held.answered, None
            answered()
        return dict(zip(self._outputs, arrays, strict=True))

    def end_profiling(self) -> Path:
        """Returns the file with the layers' times; for an engine loaded with ``profile``."""
        return Path(self._held.session.end_profiling())

    def close(self) -> None:
        """Frees the session; the mapped weights stay while another engine uses them."""
        self._held = Held(None)

    def _error(self, cause: Exception, inputs: Arrays) -> Exception:
        for name, array in inputs.items():
            if is_device_array(array):
                return InputError(
                    f"input {name!r} lies on the GPU, but this engine runs on the CPU. Give it"
                    " a numpy array: .cpu().numpy() of a tensor."
                )
        return EngineError(f"graph {self._graph!r}: ONNX Runtime failed: {line(cause)}")


class RowByRow(OnnxRuntimeEngine):
    """An engine whose gates decide for one row at a time: a batch is run row by row."""

    def __init__(self, graph: str, held: Held, settings: Arrays) -> None:
        super().__init__(graph, held, settings)
        session = held.session
        self._rows = row_axes(session.get_inputs())
        self._answers = row_axes(session.get_outputs())

    def run(self, inputs: Arrays) -> Outputs:
        """Returns the same for all rows together; see ``OnnxRuntimeEngine.run``."""
        parts = by_row(inputs, self._rows)
        if len(parts) == 1:
            return super().run(inputs)
        return together([super(RowByRow, self).run(part) for part in parts], self._answers)


def _onnxruntime() -> ModuleType:
    try:
        return importlib.import_module(_LIBRARY)
    except ImportError as cause:
        missing = isinstance(cause, ModuleNotFoundError) and cause.name == _LIBRARY
        found = "is not installed" if missing else f"cannot be imported ({cause})"
        raise BackendUnavailableError(
            f"the target 'cpu' runs on onnxruntime, which {found}."
            f" Install it with: {install_text('cpu')}"
        ) from cause
