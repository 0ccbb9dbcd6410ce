"""Where ONNX Runtime keeps tensors and computes: the GPU, or the CPU by the same calls.

What ``device.py`` does on a GPU is done through a ``Device``, so that it runs on a CPU, too:
nothing but this file knows CUDA.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import platform
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BackendUnavailableError, EngineError, install_text, reason_of
from ..cuda import open_cuda
from .process import PROBE, new_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from numpy.typing import NDArray

_LIBRARY = "onnxruntime"
_LINE_BYTES = 64
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_PROVIDER_FILE = "libonnxruntime_providers_cuda.so"
_ADVICE = f"Install it with: {install_text('cuda')}, where no onnxruntime is (docs/cuda.md)."


@dataclass(frozen=True, slots=True)
class Placed:
    """Bytes on a device: where they lie, and what frees them."""

    address: int
    size_bytes: int
    free: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Device:
    """A device that ONNX Runtime computes on, opened.

    Attributes:
        kind: ONNX Runtime's word for where its tensors lie.
        provider: The execution provider that has to run the graphs.
        options: The provider's, for every session.
        graph_options: What captures a session's work as a graph; empty where nothing can.
        host: What engines built for it depend on, by name.
        name: For messages.
        used_bytes: Returns how much of its memory is taken now.
        place: Copies bytes to new memory of it.
        close: Frees what was made with it.
    """

    kind: str
    provider: str
    host: Mapping[str, str]
    name: str
    used_bytes: Callable[[], int]
    place: Callable[[NDArray[np.uint8]], Placed]
    options: Mapping[str, str] = field(default_factory=dict)
    graph_options: Mapping[str, str] = field(default_factory=dict)
    close: Callable[[], object] = lambda: None

    def providers(self, graph: bool = False) -> list[Any]:
        """Returns what a session is given as its providers; ``graph`` lets it capture."""
        if self.provider == CPU:
            return [CPU]
        options = {**self.options, **(self.graph_options if graph else {})}
        return [(self.provider, options), CPU]

    def check(self, session: Any) -> None:
        """Refuses a session that fell back to the CPU, which ONNX Runtime does silently.

        Raises:
            EngineError: It did.
        """
        found = list(session.get_providers())
        if found[0] != self.provider:
            raise EngineError(
                f"ONNX Runtime could not start {self.provider} and fell back to {found[0]},"
                f" which is refused. {_cannot_load() or 'It gave no reason.'}"
            )


def cpu_device() -> Device:
    """Returns the CPU as a device: everything as on a GPU, but for the GPU."""
    ort = importlib.import_module(_LIBRARY)
    host = {
        "architecture": platform.machine(),
        _LIBRARY: str(ort.__version__),
        "gpu": "none",
    }
    return Device("cpu", CPU, host, "this CPU", _anonymous_bytes, _placed)


def cuda_device() -> Device:
    """Returns the GPU that CUDA sees first, with a stream for all sessions.

    Raises:
        BackendUnavailableError: There is none, or a library that ONNX Runtime needs for it is
            missing; the message names it.
    """
    ort = cuda_library()
    cuda = open_cuda()
    found = cuda.device()
    _preload(ort)
    stream = cuda.new_stream()

    def used_bytes() -> int:
        with cuda.current():
            return found.memory_bytes - cuda.free_bytes()

    def place(data: NDArray[np.uint8]) -> Placed:
        with cuda.current():
            address = cuda.malloc(data.nbytes)
            try:
                cuda.copy_to_device(address, data, stream)
                cuda.synchronize(stream)
            except BaseException:
                cuda.free(address)
                raise

        def free() -> None:
            with cuda.current():
                cuda.free(address)

        return Placed(address, data.nbytes, free)

    device = Device(
        kind="cuda",
        provider=CUDA,
        host={
            "architecture": platform.machine(),
            _LIBRARY: str(ort.__version__),
            "gpu": found.name,
            "compute_capability": found.compute_capability,
        },
        name=f"this GPU ({found.name})",
        used_bytes=used_bytes,
        place=place,
        options={
            "device_id": "0",
            "user_compute_stream": str(stream),
            "arena_extend_strategy": "kSameAsRequested",
        },
        graph_options={"enable_cuda_graph": "1"},
        close=lambda: cuda.free_stream(stream),
    )
    try:
        probe, _ = new_session(ort, PROBE, ort.SessionOptions(), device.providers())
        device.check(probe)
    except Exception as cause:  # ONNX Runtime's have no common class
        device.close()
        raise BackendUnavailableError(
            f"{found.name} cannot be used: {reason_of(cause)}"
        ) from cause
    return device


def cuda_library() -> ModuleType:
    """Returns an ONNX Runtime that has the CUDA provider, imported now.

    Raises:
        BackendUnavailableError: There is none, or it is the package for CPUs.
    """
    try:
        ort = importlib.import_module(_LIBRARY)
    except ImportError as cause:
        missing = isinstance(cause, ModuleNotFoundError) and cause.name == _LIBRARY
        found = "is not installed" if missing else f"cannot be imported ({cause})"
        raise BackendUnavailableError(
            f"the target 'cuda' runs on onnxruntime-gpu, which {found}. {_ADVICE}"
        ) from cause
    if CUDA not in ort.get_available_providers():
        raise BackendUnavailableError(
            "the target 'cuda' runs on onnxruntime-gpu, but Python finds onnxruntime"
            f" {ort.__version__}, the package for CPUs, which has the same name. Where both"
            " are installed the last one wins: pip uninstall onnxruntime onnxruntime-gpu."
            f" Then: {install_text('cuda')} (docs/cuda.md)."
        )
    return ort


def missing_library(file: Path) -> str:
    """Returns why a shared library cannot be loaded, as the loader says; empty if it can."""
    try:
        ctypes.CDLL(str(file))
    except OSError as cause:
        return str(cause)
    return ""


def _preload(ort: ModuleType) -> None:
    """Loads the libraries of NVIDIA's packages, which no loader finds by itself."""
    if hasattr(ort, "preload_dlls"):
        with redirect_stdout(io.StringIO()):  # it prints what is not there
            ort.preload_dlls()


def _cannot_load() -> str:
    """Returns which library the CUDA provider lacks and what to do; empty if it has all.

    Only asked when ONNX Runtime has failed: it has to be the first to load its provider.
    """
    ort = importlib.import_module(_LIBRARY)
    folder = Path(str(ort.__file__)).parent / "capi"
    why = missing_library(folder / _PROVIDER_FILE)
    if not why:
        return ""
    return (
        f"Its library cannot be loaded: {why}. The extra brings NVIDIA's libraries, a driver"
        f" has to be there: {install_text('cuda')}. On a system that has CUDA and cuDNN, put"
        " their folder on LD_LIBRARY_PATH."
    )


def _placed(data: NDArray[np.uint8]) -> Placed:
    """Returns a copy in this process, at the beginning of a line of the caches."""
    memory = np.empty(data.nbytes + _LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % _LINE_BYTES
    memory[start : start + data.nbytes] = data
    held = [memory]
    return Placed(memory.ctypes.data + start, data.nbytes, held.clear)


def _anonymous_bytes() -> int:
    """Returns the memory of this process that no file backs; 0 where the system hides it."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    found = (line.split() for line in text.splitlines() if line.startswith("Anonymous:"))
    return next((int(fields[1]) * 1024 for fields in found), 0)
