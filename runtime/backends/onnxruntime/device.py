"""ONNX Runtime on a device: one copy of the weights, fixed buffers, one stream.

The graphs come optimised, and their weights lie in the packed store. It is copied to the
device once, and every session is given its tensors there (``add_initializer``).
ONNX Runtime takes it in place only where it lies where the session wants it, and else makes a
copy of its own and says nothing: so what a load took is measured.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from ...bundle.onnx_graph import check_locations, external_tensors
from ...bundle.route import only_handed_over
from ...errors import ChoiceError, EngineError, IntegrityError, choices_text
from .. import Sharing
from ..host import check_fits, stale_reason
from . import devices
from .bound import BUILD_AGAIN, BoundEngine, Buffers, line, loading
from .lent import value_at
from .process import USE_ENV_ALLOCATORS, new_session, shared_arena

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...bundle.engines import EngineSet
    from ...bundle.folder import Bundle
    from ...bundle.manifest import Manifest
    from .. import Backend
    from .devices import Device, Placed

NAME = "onnxruntime-cuda"
_LIBRARY = "onnxruntime"
_LOG = logging.getLogger(__name__)
_FATAL_ONLY = 4  # errors come as exceptions
_NOISE_BYTES = 16 << 20
"""What a driver, a library's code and rounding up to pages may take with any load."""
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}
"""ONNX's element types that NumPy has; a tensor of another one is left to ONNX Runtime."""


def open_backend(
    bundle: Bundle,
    engines: EngineSet,
    threads: int | None,
    device_bytes: int | None,
    quick: bool = False,
) -> Backend:
    """Returns the backend that runs ``engines`` on this machine's GPU.

    Raises:
        BackendUnavailableError: onnxruntime-gpu or a library of CUDA is missing, or there is
            no GPU.
        StaleEngineError: The engines were built for another GPU or ONNX Runtime.
        ChoiceError: Threads, a limit of device memory or a quick start were asked for.
    """
    here = f"engines of target {engines.target!r}"
    refused = {
        f"threads={threads}: {here} run on the GPU.": threads is not None,
        f"device_bytes={device_bytes}: {here} lie over one copy of the weights, which no limit"
        " makes smaller.": device_bytes is not None,
        f"quick=True: {here} are loaded as they are run.": quick,
    }
    for why, holds in refused.items():
        if holds:
            raise ChoiceError(f"{why} Leave it out.")
    device = devices.cuda_device()
    check_fits(bundle, engines, stale_reason(engines.host, device.host))
    folder = bundle.engine_dir(engines.target)
    files = {entry.graph: folder / entry.file for entry in engines.engines}
    return OnnxRuntimeDevice(device, files, engines.packed_file, bundle.manifest)


class OnnxRuntimeDevice:
    """The engines of one family on one device; satisfies ``Backend``.

    Args:
        device: Where they run.
        files: Each graph's optimised file.
        packed_file: Name of the store beside them; empty if the graphs hold all themselves.
        manifest: What the graphs take and give, and which tensors routes hand over.
    """

    name = NAME
    threads = 1

    def __init__(
        self, device: Device, files: Mapping[str, Path], packed_file: str, manifest: Manifest
    ) -> None:
        self._device = device
        self._ort = importlib.import_module(_LIBRARY)
        self._files = dict(files)
        self._manifest = manifest
        self._packed_file = packed_file
        self._host_arena = shared_arena(self._ort)
        folder = next(iter(self._files.values())).parent
        self._weights = _Weights(device, folder / packed_file)
        self._buffers = Buffers(self._ort, device.kind, RLock())
        routes = [entry.route for entry in manifest.configurations]
        self._staying = only_handed_over(routes, manifest.outputs)
        self._ungraphed: dict[str, str] = {}
        self.taken_bytes: dict[str, int] = {}

    def load(self, graph: str) -> BoundEngine:
        """Loads one graph's engine over the weights that are on the device already.

        Raises:
            EngineError: There is no such engine, ONNX Runtime refused it or fell back to the
                CPU, or it takes tensors from another file than the packed store.
        """
        if graph not in self._files:
            raise EngineError(
                f"no engine for graph {graph!r}. {choices_text(graph, self._files)}"
            )
        path, store = self._files[graph], Path(self._packed_file).name
        with loading(graph, path):
            check_locations(path, store, BUILD_AGAIN)
            weights = self._weights.of(path) if store else {}
            before_bytes = self._device.used_bytes()
            session, captures = self._session(graph, weights)
        self._device.check(session)
        self.taken_bytes[graph] = max(self._device.used_bytes() - before_bytes, 0)
        entry = self._manifest.graph(graph)
        staying = self._staying.get(graph, frozenset())
        dimensions = self._manifest.dimensions
        return BoundEngine(entry, dimensions, session, self._buffers, staying, captures)

    def sharing(self) -> Sharing:
        """Returns what the engines loaded so far share, as far as it was measured."""
        weights, loaded = self._weights, len(self.taken_bytes)
        besides_bytes = sum(self.taken_bytes.values())
        used_bytes = sum(weights.used_bytes(self._files[graph]) for graph in self.taken_bytes)
        copied = besides_bytes > max(used_bytes / 2, _NOISE_BYTES)
        verdict = (
            "so ONNX Runtime has copied them: they are not shared"
            if copied
            else "so they are shared"
        )
        why = "; ".join(f"{name}: {reason}" for name, reason in self._ungraphed.items())
        return Sharing(
            weights=(
                f"{weights.size_bytes} bytes of weights lie once on {self._device.name};"
                f" loading {loaded} engines took {besides_bytes} bytes besides (measured),"
                f" {verdict}"
            ),
            arena=(
                "one arena per engine, which its captured graph writes to at every call"
                if self._device.graph_options
                else self._host_arena or "one arena per engine"
            ),
            threads=f"one stream; without a graph: {why}" if why else "one stream",
        )

    def close(self) -> None:
        """Frees weights, buffers and the stream."""
        self._buffers.clear()
        self._weights.clear()
        self._device.close()

    def _session(self, graph: str, weights: Mapping[str, Any]) -> tuple[Any, bool]:
        """Returns a session, and whether its calls are captured as a graph."""
        path = str(self._files[graph])
        if self._device.graph_options:
            providers = self._device.providers(graph=True)
            try:
                return new_session(self._ort, path, self._options(weights), providers)[0], True
            except Exception as cause:  # its errors have no common class
                # A node on the CPU or a branch cannot be captured; without, it may load.
                reason = line(cause)
            providers = self._device.providers()
            session, _ = new_session(self._ort, path, self._options(weights), providers)
            _LOG.warning("graph %r is run without a captured graph: %s", graph, reason)
            self._ungraphed[graph] = reason
            return session, False
        providers = self._device.providers()
        return new_session(self._ort, path, self._options(weights), providers)[0], False

    def _options(self, weights: Mapping[str, Any]) -> Any:
        options = self._ort.SessionOptions()
        # The graphs are optimised already; doing it again would make weights of its own.
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        options.log_severity_level = _FATAL_ONLY
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # What a kernel packs for itself it would not share.
        options.add_session_config_entry("session.disable_prepacking", "1")
        if self._host_arena:
            options.add_session_config_entry(USE_ENV_ALLOCATORS, "1")
        for name, value in weights.items():
            options.add_initializer(name, value)
        return options


class _Weights:
    """A packed store on the device, whole and once, from the first use on."""

    def __init__(self, device: Device, store: Path) -> None:
        self._device, self._store = device, store
        self._placed: Placed | None = None
        self._values: dict[tuple[int, str, tuple[int, ...]], Any] = {}

    @property
    def size_bytes(self) -> int:
        """What lies on the device."""
        return 0 if self._placed is None else self._placed.size_bytes

    def used_bytes(self, graph: Path) -> int:
        """Returns how much of the store a graph uses."""
        return sum(each.size_bytes for each in external_tensors(graph))

    def of(self, graph: Path) -> dict[str, Any]:
        """Returns a graph's weights by name, as the library takes them."""
        if self._placed is None:
            self._placed = self._device.place(np.memmap(self._store, np.uint8, mode="r"))
        found = {}
        for each in external_tensors(graph):
            dtype = _DTYPES.get(each.data_type)
            if dtype is None:
                continue
            end = each.offset_bytes + each.size_bytes
            needed = int(np.prod(each.shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            if end > self._placed.size_bytes or needed != each.size_bytes:
                raise IntegrityError(
                    f"{graph}: the tensor {each.name!r} does not lie within"
                    f" {self._store.name}. {BUILD_AGAIN}"
                )
            key = each.offset_bytes, dtype, each.shape
            if key not in self._values:
                address = self._placed.address + each.offset_bytes
                self._values[key] = value_at(address, each.shape, dtype, self._device.kind)
            found[each.name] = self._values[key]
        return found

    def clear(self) -> None:
        """Frees the memory; the sessions have to be gone."""
        self._values.clear()
        if self._placed is not None:
            self._placed.free()
            self._placed = None
